// Words: integers of 32 bits, as many as a batch of floats has lanes; the bits of floats, and
// tables of 16 entries that they are looked up in. Doubles: half as many, also where xsimd has no
// batches of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::simd {
namespace detail {

using FloatRegister = Batch<float>::register_type;

}  // namespace detail

typedef std::uint32_t Words __attribute__((vector_size(sizeof(detail::FloatRegister))));
typedef double Doubles __attribute__((vector_size(sizeof(detail::FloatRegister))));

[[gnu::always_inline]] inline Words bits_of(const Batch<float>& x) noexcept {
    return Words(detail::FloatRegister(x));
}
[[gnu::always_inline]] inline Batch<float> float_of(const Words& bits) noexcept {
    return Batch<float>(detail::FloatRegister(bits));
}

// The first n words at p, of any alignment, zeros behind them. 0 ≤ n ≤ lanes<float>.
[[gnu::always_inline]] inline Words load_words(const std::byte* p, Index n) noexcept {
#if defined(__AVX512F__)
    return Words(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << n) - 1U), p));
#else
    Words words{};
    std::memcpy(&words, p, static_cast<std::size_t>(n) * sizeof(std::uint32_t));
    return words;
#endif
}

// a + b where mask, a comparison of floats, holds; else a.
template <class Mask>
[[gnu::always_inline]] inline Batch<float> add_where(const Mask& mask, const Batch<float>& a,
                                                     const Batch<float>& b) noexcept {
#if defined(__AVX512F__)  // g++ 12 would make it a blend, or a fused form, for which units are
                          // fewer
    return _mm512_mask_add_ps(a, mask, a, b);
#else
    return select(mask, Batch<float>(a + b), a);
#endif
}
template <class Mask>
[[gnu::always_inline]] inline Words add_where(const Mask& mask, const Words& a,
                                              const Words& b) noexcept {
#if defined(__AVX512F__)
    return Words(_mm512_mask_add_epi32(__m512i(a), mask, __m512i(a), __m512i(b)));
#else
    return bits_of(select(mask, float_of(a + b), float_of(a)));
#endif
}

// To the nearest integer, ties to even, as two's complement. |x| < 2³¹.
[[gnu::always_inline]] inline Words rounded(const Batch<float>& x) noexcept {
    using Register = xsimd::batch<std::int32_t, xsimd::default_arch>::register_type;
    return Words(Register(detail::nearest_integers(x)));
}

// As doubles: the lower half of the lanes, and the upper.
[[gnu::always_inline]] inline std::array<Doubles, 2> widened(const Batch<float>& x) noexcept {
#if defined(__AVX512F__)  // g++ 12 converts the general form one by one
    const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    return {Doubles(_mm512_cvtps_pd(_mm512_castps512_ps256(x))), Doubles(_mm512_cvtps_pd(upper))};
#elif defined(__AVX__)
    return {Doubles(_mm256_cvtps_pd(_mm256_castps256_ps128(x))),
            Doubles(_mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)))};
#else
    const detail::FloatRegister all = x;
    std::array<Doubles, 2> wide;
    for (Index h = 0, half = lanes<float> / 2; h < 2; ++h)
        for (Index l = 0; l < half; ++l)
            wide[static_cast<std::size_t>(h)][l] = static_cast<double>(all[h * half + l]);
    return wide;
#endif
}

struct alignas(alignment) Sixteen {
    std::array<float, 16> entries;
};

// Lane by lane, the entry that the low four bits of index name.
[[gnu::always_inline]] inline Batch<float> lookup(const Sixteen& table,
                                                  const Words& index) noexcept {
    const float* const from = table.entries.data();
#if defined(__AVX512F__)
    return _mm512_permutexvar_ps(__m512i(index), _mm512_load_ps(from));
#elif defined(__AVX2__)
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(from), __m256i(index)),
                 high = _mm256_permutevar8x32_ps(_mm256_load_ps(from + 8), __m256i(index));
    return _mm256_blendv_ps(low, high, __m256(index << 28));
#else
    detail::FloatRegister found;
    for (Index l = 0; l < lanes<float>; ++l) found[l] = from[index[l] & 15];
    return found;
#endif
}

// Fifteen numbers in ascending order.
class Ascending {
public:
    constexpr explicit Ascending(const std::array<float, 15>& numbers) noexcept {
        for (std::size_t step = 1, s = 0; step < 16; step *= 2, ++s)
            for (std::size_t i = 0; i + step <= 15; ++i)
                behind_[s].entries[i] = numbers[i + step - 1];
    }
    // Lane by lane, how many are at most x.
    [[gnu::always_inline]] Words count_up_to(const Batch<float>& x) const noexcept {
        Words count{};
        unroll<4>([&](auto s) __attribute__((always_inline)) {
            constexpr std::uint32_t step = 8U >> s();
            const auto more = x >= lookup(behind_[3 - static_cast<std::size_t>(s())], count);
            count = add_where(more, count, Words{} + step);
        });
        return count;
    }

private:
    std::array<Sixteen, 4> behind_{};  // [s][i]: of numbers from the i-th on, the 2ˢ-th
};

}  // namespace HYDRALM_NAMESPACE::simd
