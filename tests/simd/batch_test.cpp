// Reductions over the lanes of a batch: in one order, and what they make of NaN. Quotients and
// integers: rounded as those of one number.
#include "hydralm/simd/batch.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"

using hydralm::Index;
namespace simd = hydralm::simd;

TEMPLATE_TEST_CASE("reduce_add, reduce_max: halves folded onto each other", "[simd]", float,
                   double) {
    using T = TestType;
    constexpr auto lanes = static_cast<std::size_t>(simd::lanes<T>);
    hydralm::Random random(1);
    for (int round = 0; round < 1000; ++round) {
        std::array<T, lanes> x, sums, tops;
        for (T& v : x) v = static_cast<T>(random.normal());
        sums = tops = x;
        for (std::size_t half = lanes / 2; half > 0; half /= 2)
            for (std::size_t i = 0; i < half; ++i) {
                sums[i] = sums[i] + sums[i + half];
                tops[i] = tops[i] > tops[i + half] ? tops[i] : tops[i + half];
            }
        const auto batch = simd::load<T>(x.data());
        CHECK(simd::reduce_add<T>(batch) == sums[0]);
        CHECK(simd::reduce_max<T>(batch) == tops[0]);
    }
}

TEST_CASE("divide: exactly rounded; store_rounded: ties to even", "[simd]") {
    constexpr auto lanes = static_cast<std::size_t>(simd::lanes<float>);
    hydralm::Random random(2);
    for (int round = 0; round < 1000; ++round) {
        std::array<float, lanes> a, b, quotients;
        for (float& v : a) v = 0.5F * static_cast<float>(random.below(513)) - 128;
        for (float& v : b) v = static_cast<float>(random.normal());
        const auto x = simd::load(a.data());
        std::array<std::int32_t, lanes> whole;
        simd::store_rounded(whole.data(), x);
        simd::store(quotients.data(), simd::divide<float>(x, simd::load(b.data())));
        for (std::size_t i = 0; i < lanes; ++i) {
            CHECK(static_cast<float>(whole[i]) == std::nearbyint(a[i]));
            CHECK(quotients[i] == a[i] / b[i]);
        }
    }
}

TEMPLATE_TEST_CASE("max: the second of two where one is NaN", "[simd]", float, double) {
    using T = TestType;
    const auto nan = simd::broadcast<T>(std::numeric_limits<T>::quiet_NaN());
    const auto one = simd::broadcast<T>(1), two = simd::broadcast<T>(2);
    CHECK(simd::reduce_max<T>(simd::max<T>(nan, one)) == T(1));
    const T unordered = simd::reduce_add<T>(simd::max<T>(one, nan));
    CHECK(unordered != unordered);
    CHECK(simd::reduce_max<T>(simd::max<T>(two, one)) == T(2));
    CHECK(simd::reduce_max<T>(simd::max<T>(one, two)) == T(2));
}
