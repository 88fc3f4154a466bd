// Random: a small seeded generator whose sequence is the same on every platform, and whose state is
// a value.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// xoshiro256** seeded through splitmix64 (Blackman & Vigna, "Scrambled linear pseudorandom number
// generators"). stream separates uses of one seed: each (seed, stream) is its own sequence. Not for
// cryptography.
class Random {
public:
    using result_type = std::uint64_t;

    explicit Random(std::uint64_t seed, std::uint64_t stream = 0) noexcept {
        std::uint64_t mix = stream;
        mix = seed ^ splitmix(mix);  // streams of one seed begin far apart
        for (auto& word : words_) word = splitmix(mix);
    }

    static constexpr result_type min() noexcept { return 0; }
    static constexpr result_type max() noexcept { return ~result_type{0}; }

    result_type operator()() noexcept {
        const std::uint64_t result = std::rotl(words_[1] * 5, 7) * 9;
        const std::uint64_t shifted = words_[1] << 17;
        words_[2] ^= words_[0];
        words_[3] ^= words_[1];
        words_[1] ^= words_[2];
        words_[0] ^= words_[3];
        words_[2] ^= shifted;
        words_[3] = std::rotl(words_[3], 45);
        return result;
    }

    // Uniform in [0, 1), 53 bits.
    double uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }
    // Uniform in [low, high], high only by rounding: once, whether or not the compiler fuses.
    double uniform(double low, double high) noexcept {
        return std::fma(high - low, uniform(), low);
    }
    // Uniform integer in [0, bound), bound > 0, without modulo bias.
    std::uint64_t below(std::uint64_t bound) noexcept {
        const std::uint64_t limit = max() - max() % bound;
        std::uint64_t x = (*this)();
        while (x >= limit) x = (*this)();
        return x % bound;
    }
    // Standard normal (Box–Muller, one of the pair; no hidden state beyond the words).
    double normal() noexcept {
        const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
        return radius * std::cos(2.0 * std::numbers::pi * uniform());
    }

    const std::array<std::uint64_t, 4>& words() const noexcept { return words_; }
    void set_words(const std::array<std::uint64_t, 4>& words) noexcept { words_ = words; }

private:
    static std::uint64_t splitmix(std::uint64_t& state) noexcept {
        std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }

    std::array<std::uint64_t, 4> words_{};
};

}  // namespace HYDRALM_NAMESPACE
