// Words: what is done lane by lane, against the same of one number.
#include "hydralm/simd/words.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"

using hydralm::Index;
namespace simd = hydralm::simd;

namespace {

constexpr Index lanes = simd::lanes<float>;
using Floats = std::array<float, static_cast<std::size_t>(lanes)>;

Floats stored(const simd::Batch<float>& x) {
    Floats values;
    simd::store(values.data(), x);
    return values;
}

}  // namespace

TEST_CASE("words: rounded to even, widened, and added where a comparison holds", "[simd]") {
    hydralm::Random random(1);
    for (int round = 0; round < 1000; ++round) {
        Floats x, y;
        for (float& v : x) v = 0.5F * static_cast<float>(random.below(513)) - 128;
        for (float& v : y) v = static_cast<float>(random.normal());
        const auto a = simd::load(x.data()), b = simd::load(y.data());
        const auto wide = std::bit_cast<std::array<double, lanes>>(simd::widened(b));
        const auto whole = simd::rounded(a), bits = simd::bits_of(b);
        const auto sums = stored(simd::add_where(a >= b, a, b));
        const auto counts = simd::add_where(a >= b, whole, bits);
        for (Index l = 0; l < lanes; ++l) {
            const auto i = static_cast<std::size_t>(l);
            const auto nearest =
                static_cast<std::uint32_t>(static_cast<std::int32_t>(std::nearbyint(x[i])));
            CHECK(whole[l] == nearest);
            CHECK(bits[l] == std::bit_cast<std::uint32_t>(y[i]));
            CHECK(wide[i] == static_cast<double>(y[i]));
            CHECK(sums[i] == (x[i] >= y[i] ? x[i] + y[i] : x[i]));
            CHECK(counts[l] == (x[i] >= y[i] ? nearest + bits[l] : nearest));
        }
    }
}

TEST_CASE("words: the first of them, read from anywhere", "[simd]") {
    std::array<std::byte, 2 * sizeof(simd::Words)> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i + 1);
    for (std::size_t from = 0; from < 5; ++from)
        for (Index n = 0; n <= lanes; ++n) {
            const simd::Words found = simd::load_words(&bytes[from], n);
            for (Index l = 0; l < lanes; ++l) {
                std::uint32_t expected = 0;
                if (l < n)
                    std::memcpy(&expected, &bytes[from + static_cast<std::size_t>(4 * l)], 4);
                CHECK(found[l] == expected);
            }
        }
}

TEST_CASE("words: entries looked up by their low four bits", "[simd]") {
    simd::Sixteen table;
    for (std::size_t i = 0; i < 16; ++i) table.entries[i] = static_cast<float>(i * i);
    hydralm::Random random(2);
    for (int round = 0; round < 1000; ++round) {
        simd::Words index;
        for (Index l = 0; l < lanes; ++l)
            index[l] = static_cast<std::uint32_t>(random.below(1ULL << 32));
        const auto found = stored(simd::lookup(table, index));
        for (Index l = 0; l < lanes; ++l)
            CHECK(found[static_cast<std::size_t>(l)] == table.entries[index[l] & 15U]);
    }
}

TEST_CASE("words: how many of fifteen ascending numbers are at most x", "[simd]") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::array<float, 15> numbers;
    for (std::size_t i = 0; i < 15; ++i) numbers[i] = static_cast<float>(i / 2) - 3;  // in pairs
    const simd::Ascending ascending(numbers);
    for (float x = -5; x < 6; x += 0.25F) {
        const auto found = ascending.count_up_to(simd::broadcast(x));
        const auto count = std::count_if(numbers.begin(), numbers.end(),
                                         [x](float number) { return number <= x; });
        for (Index l = 0; l < lanes; ++l) CHECK(found[l] == static_cast<std::uint32_t>(count));
    }
    CHECK(ascending.count_up_to(simd::broadcast(infinity))[0] == 15);
    CHECK(ascending.count_up_to(simd::broadcast(-infinity))[0] == 0);
    CHECK(ascending.count_up_to(simd::broadcast(std::numeric_limits<float>::quiet_NaN()))[0] == 0);
}
