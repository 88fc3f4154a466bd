// Blocks of 8 and 4 bits: quantising makes the blocks of the plain search, which tries every scale.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "hydralm/core/bfloat16.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/weights/quantised_block.hpp"
#include "support/catch.hpp"

using namespace hydralm;
using weights::Q4Block;
using weights::Q8Block;

namespace {

using Weights = std::span<const float>;

bool is_value(const Q8Block&, float x) { return x == std::nearbyint(x) && x >= -128 && x < 128; }
bool is_value(const Q4Block&, float x) {
    return std::find(Q4Block::table.begin(), Q4Block::table.end(), x) != Q4Block::table.end();
}

float plain_extreme(Weights w) {
    float most = 0;
    for (const float x : w) {
        if (!std::isfinite(x)) return std::numeric_limits<float>::quiet_NaN();
        if (std::abs(x) > std::abs(most)) most = x;
    }
    return most;
}

// 0 where there is none.
template <class Block>
float plain_exact_scale(Weights w) {
    const float most = plain_extreme(w);
    if (most == 0) return 0;
    for (int i = 0; i < Block::candidates; ++i) {
        const float scale = Block::candidate(most, i);
        const auto fits = [scale](float x) {
            return is_value(Block{}, x / scale) && x / scale * scale == x;
        };
        if (scale != 0 && float_from_f16(f16_from(scale)) == scale &&
            std::all_of(w.begin(), w.end(), fits))
            return scale;
    }
    return 0;
}

int plain_entry(float x) {
    int index = 0;
    for (std::size_t i = 1; i < Q4Block::table.size(); ++i)
        index += x >= 0.5F * static_cast<float>(Q4Block::table[i - 1] + Q4Block::table[i]) ? 1 : 0;
    return index;
}

void set(Q8Block& block, std::size_t i, float x) {
    block.values[i] = static_cast<std::int8_t>(std::nearbyint(std::clamp(x, -128.0F, 127.0F)));
}
void set(Q4Block& block, std::size_t i, float x) {
    auto& pair = block.nibbles[i % 16];
    pair = static_cast<std::uint8_t>(i < 16 ? (pair & 0xf0) | plain_entry(x)
                                            : (pair & 15) | plain_entry(x) << 4);
}
template <class Block>
Block with_scale(Weights w, float scale) {
    Block block{.scale_bits = weights::detail::block_scale(scale)};
    const float inverse = weights::detail::inverse(block.scale());
    for (std::size_t i = 0; i < 32; ++i) set(block, i, i < w.size() ? w[i] * inverse : 0);
    return block;
}

float plain_scale(const Q8Block&, Weights w) { return std::abs(plain_extreme(w)) / 127; }
float plain_scale(const Q4Block&, Weights w) {
    const float most = plain_extreme(w);
    double best = 0, best_gain = -1;
    const auto consider = [&](float factor) {
        double product = 0, square = 0;
        for (const float x : w) {
            const double v =
                Q4Block::table[static_cast<std::size_t>(plain_entry(x / most * factor))];
            product += static_cast<double>(x / most) * v;
            square += v * v;
        }
        const double scale = product / square;
        if (product * scale <= best_gain) return;
        best = scale;
        best_gain = product * scale;
    };
    for (const int end : {-127, 113})
        for (int step = -8; step <= 8; ++step)
            consider(static_cast<float>(end) + 1.5F * static_cast<float>(step));
    for (int again = 0; again < 2; ++again)
        consider(weights::detail::inverse(static_cast<float>(best)));
    return static_cast<float>(best) * most;
}

template <class Block>
std::array<float, 32> values_of(const Block& block) {
    std::array<float, 32> w;
    for (Index i = 0; i < 32; ++i)
        w[static_cast<std::size_t>(i)] = block.scale() * static_cast<float>(block.value(i));
    return w;
}

template <class Block>
Block plain(Weights w) {
    if (const float scale = plain_exact_scale<Block>(w); scale != 0)
        return with_scale<Block>(w, scale);
    const float most = plain_extreme(w);
    if (!(std::abs(most) > 0)) return with_scale<Block>({}, most);
    const auto block = with_scale<Block>(w, plain_scale(Block{}, w));
    const auto kept = values_of(block);
    const float scale = plain_exact_scale<Block>(Weights(kept).first(w.size()));
    return scale == 0 ? block : with_scale<Block>(Weights(kept).first(w.size()), scale);
}

// The n-th of many kinds, of any size.
std::array<float, 32> block_weights(Random& random, Index n) {
    std::array<float, 32> w;
    const auto size = static_cast<float>(std::exp(random.uniform(-24, 13)));
    const float scale = float_from_f16(f16_from(std::min(size, 6e4F))) * (n % 20 < 10 ? 1 : -1);
    for (float& x : w) {
        x = size * static_cast<float>(random.normal());
        const auto whole = [&](int least, std::uint64_t count) {
            return scale * static_cast<float>(least + static_cast<int>(random.below(count)));
        };
        switch (n % 12) {
            case 1: x = float_from_bf16(bf16_from(x)); break;
            case 2: x = float_from_f16(f16_from(x)); break;
            case 3: x = whole(-8, 16); break;  // as Q4_0 has them
            case 4: x = whole(-128, 256); break;
            case 5: x = scale * static_cast<float>(Q4Block::table[random.below(16)]); break;
            case 6: x = n % 3 == 0 ? size : -size; break;
            case 7: x = random.below(3) == 0 ? x : -0.0F; break;
            case 8: x = float_from_bf16(bf16_from(random.below(2) == 0 ? x : 1e-3F * x)); break;
            case 9:
            case 10:  // of all bits, and below the smallest normal number
                x = std::bit_cast<float>(
                    static_cast<std::uint32_t>(random.below(1ULL << (n % 12 == 9 ? 32 : 23))));
                break;
            case 11: x *= &x == w.data() + n % 32 ? 1e3F : n % 5 == 0 ? 0.0F : 1e-4F; break;
            default: break;
        }
    }
    return w;
}

}  // namespace

TEMPLATE_TEST_CASE("quantised blocks: those of the plain search, for all kinds of weights",
                   "[quantised]", Q8Block, Q4Block) {
    Random random(11);
    Index wrong = 0, final = 0;
    for (Index n = 0; n < 20'000; ++n) {
        auto w = block_weights(random, n);
        const Index count = n % 7 == 0 ? 1 + n % 32 : 32;
        const auto expected = plain<TestType>(Weights(w).first(static_cast<std::size_t>(count)));
        std::fill(w.begin() + count, w.end(), std::numeric_limits<float>::quiet_NaN());
        const auto block = TestType::quantise(w.data(), count);
        wrong += std::memcmp(&block, &expected, sizeof block) != 0;
        if (!block.is_final()) continue;
        ++final;
        const auto again = plain<TestType>(values_of(block));
        wrong += std::memcmp(&block, &again, sizeof block) != 0;
    }
    CHECK(wrong == 0);
    CHECK(final > 5000);
}

TEMPLATE_TEST_CASE("quantised blocks: many at once are those one by one", "[quantised]", Q8Block,
                   Q4Block) {
    Random random(13);
    Index kind = 0;
    for (Index n = 1; n < 200; ++n) {
        const Index count = n % 3 == 0 ? 1 + n % 32 : 32, stride = count + n % 7;
        std::vector<float> w(static_cast<std::size_t>(n * stride),
                             std::numeric_limits<float>::quiet_NaN());
        std::vector<TestType> expected, found(static_cast<std::size_t>(n) + 1);
        found.back().scale_bits = 0x1234;
        for (Index b = 0; b < n; ++b) {
            const auto block = block_weights(random, kind++);
            std::copy_n(block.begin(), count, w.begin() + b * stride);
            expected.push_back(
                plain<TestType>(Weights(block).first(static_cast<std::size_t>(count))));
        }
        expected.push_back(found.back());
        TestType::quantise(w.data(), stride, n, count, found.data());
        INFO(n << " blocks of " << count);
        CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(TestType)) == 0);
    }
}

TEMPLATE_TEST_CASE("quantised blocks: what is seen to be final is, of any bytes", "[quantised]",
                   Q8Block, Q4Block) {
    Random random(12);
    Index wrong = 0, final = 0;
    for (Index n = 0; n < 20'000; ++n) {
        std::array<std::uint8_t, sizeof(TestType)> bytes;
        for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
        const auto block = std::bit_cast<TestType>(bytes);
        if (!block.is_final()) continue;
        ++final;
        const auto again = plain<TestType>(values_of(block));
        wrong += std::memcmp(&block, &again, sizeof block) != 0;
    }
    CHECK(wrong == 0);
    CHECK(final > 1000);
}
