// byte_dot by 256 bits: AVX-VNNI's vpdpbusd, or AVX2's products of 16-bit words, which are exact
// where the products of bytes would saturate.
//
// Half a panel at a time, 8 outputs.
#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include "hydralm/simd/byte_dot/leaf.hpp"

namespace HYDRALM_NAMESPACE::simd::detail {

// What both have in common.
struct Half256 {
    [[gnu::target("avx2,fma,f16c"), gnu::always_inline]]
    static inline __m256i values_of(__m256i nibbles) noexcept {
        const __m256i table = _mm256_broadcastsi128_si256(
            _mm_load_si128(reinterpret_cast<const __m128i*>(nibble_values.data())));
        return _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
    }
    template <bool Nibbles>
    [[gnu::target("avx2,fma,f16c"), gnu::always_inline]]
    static inline __m256i line(const std::uint8_t* pair, int half, int block, int quad) noexcept {
        const auto at = [pair, half](int bytes) __attribute__((always_inline)) {
            return reinterpret_cast<const __m256i*>(pair + 64 + bytes + half * 32);
        };
        if constexpr (!Nibbles) {
            return _mm256_load_si256(at(block * 512 + quad * 64));
        } else {
            const __m256i both = _mm256_load_si256(at(quad * 64));
            return values_of(block == 0 ? both : _mm256_srli_epi16(both, 4));
        }
    }
    // The scales of 8 outputs.
    [[gnu::target("avx2,fma,f16c"), gnu::always_inline]]
    static inline __m256 scales(const std::uint8_t* pair, int half, int block) noexcept {
        return _mm256_cvtph_ps(
            _mm_load_si128(reinterpret_cast<const __m128i*>(pair + block * 32 + half * 16)));
    }
    [[gnu::target("avx2,fma,f16c")]]
    static void widen(const std::uint8_t* from, std::uint8_t* to, Index pairs) noexcept {
        for (Index i = 0; i < pairs; ++i, from += nibble_pair, to += byte_pair) {
            std::memcpy(to, from, 64);
            for (int quad = 0; quad < 8; ++quad)
                for (int half = 0; half < 2; ++half) {
                    auto* const out = to + 64 + quad * 64 + half * 32;
                    _mm256_store_si256(reinterpret_cast<__m256i*>(out),
                                       line<true>(from, half, 0, quad));
                    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 512),
                                       line<true>(from, half, 1, quad));
                }
        }
    }
};

struct AvxVnni : Half256 {
    static constexpr const char* name = "avx-vnni";
    static bool available() noexcept {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avxvnni");
    }
    static constexpr bool certain = false;  // not named in HYDRALM_ABI: units may differ in it

    template <bool Nibbles, int Rows, int Panels>
    [[gnu::target("avx2,fma,f16c,avxvnni")]]
    static void tile(const ByteRows& rows, const std::uint8_t* const* panels, Index pairs,
                     const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        constexpr Index bytes = Nibbles ? nibble_pair : byte_pair;
        constexpr std::size_t R = Rows;
        for (int p = 0; p < Panels; ++p)
            for (int half = 0; half < 2; ++half) {
                float* const to = sums + p * 16 + half * 8;
                const std::uint8_t* w = panels[p];
                ByteRows x = rows;
                __m256 sum[R];
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r)
                    sum[r] = fresh ? _mm256_setzero_ps() : _mm256_loadu_ps(to + r * sums_stride);
                for (Index i = 0; i < pairs; ++i, w += bytes) {
                    if (half == 0) fetch_pair(fetch, p, i);
#pragma GCC unroll 2
                    for (int block = 0; block < 2; ++block) {
                        __m256i acc[R];
#pragma GCC unroll 16
                        for (int r = 0; r < Rows; ++r) acc[r] = _mm256_set1_epi32(x.corrections[r]);
#pragma GCC unroll 8
                        for (int quad = 0; quad < 8; ++quad) {
                            const __m256i v = line<Nibbles>(w, half, block, quad);
#pragma GCC unroll 16
                            for (int r = 0; r < Rows; ++r)
                                acc[r] = _mm256_dpbusd_avx_epi32(
                                    acc[r], v, _mm256_set1_epi32(quad_of(x.values, r, quad)));
                            asm volatile("" ::: "memory");  // as in vnni512.hpp
                        }
                        const __m256 d = scales(w, half, block);
#pragma GCC unroll 16
                        for (int r = 0; r < Rows; ++r)
                            sum[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r]),
                                                     _mm256_mul_ps(d, _mm256_set1_ps(x.scales[r])),
                                                     sum[r]);
                        x = {x.values + Rows * 32, x.scales + Rows, x.corrections + Rows};
                    }
                }
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r) _mm256_storeu_ps(to + r * sums_stride, sum[r]);
            }
    }
};

struct Avx2 : Half256 {
    static constexpr const char* name = "avx2";
    static bool available() noexcept {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
    }
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
    static constexpr bool certain = true;
#else
    static constexpr bool certain = false;
#endif

    // Three rows at a time: their sums of four words each are two vectors a row.
    template <bool Nibbles, int Rows, int Panels>
    [[gnu::target("avx2,fma,f16c")]]
    static void tile(const ByteRows& rows, const std::uint8_t* const* panels, Index pairs,
                     const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        for (int p = 0; p < Panels; ++p)
            for (int half = 0; half < 2; ++half) {
                float* const to = sums + p * 16 + half * 8;
                some_rows<Nibbles, Rows, 0>(rows, panels[p], p, half, pairs, fetch, to, fresh);
                if constexpr (Rows > 3)
                    some_rows<Nibbles, Rows, 3>(rows, panels[p], p, half, pairs, {}, to, fresh);
            }
    }

private:
    // Rows First … First + 2 of a tile of Rows, those that there are.
    template <bool Nibbles, int Rows, int First>
    [[gnu::target("avx2,fma,f16c")]]
    static void some_rows(ByteRows x, const std::uint8_t* w, int panel, int half, Index pairs,
                          const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        constexpr int count = Rows - First < 3 ? Rows - First : 3;
        constexpr std::size_t R = count;
        constexpr Index bytes = Nibbles ? nibble_pair : byte_pair;
        __m256 sum[R];
#pragma GCC unroll 16
        for (int r = 0; r < count; ++r)
            sum[r] =
                fresh ? _mm256_setzero_ps() : _mm256_loadu_ps(sums + (First + r) * sums_stride);
        for (Index i = 0; i < pairs; ++i, w += bytes) {
            if (half == 0) fetch_pair(fetch, panel, i);
#pragma GCC unroll 2
            for (int block = 0; block < 2; ++block) {
                __m256i low[R], high[R];  // outputs 0 … 3 and 4 … 7, two words each
#pragma GCC unroll 16
                for (int r = 0; r < count; ++r) low[r] = high[r] = _mm256_setzero_si256();
#pragma GCC unroll 8
                for (int quad = 0; quad < 8; ++quad) {
                    const __m256i v = line<Nibbles>(w, half, block, quad);
                    const __m256i v0 = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(v));
                    const __m256i v1 = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(v, 1));
#pragma GCC unroll 16
                    for (int r = 0; r < count; ++r) {
                        const __m256i value = _mm256_cvtepi8_epi16(
                            _mm_set1_epi32(quad_of(x.values, First + r, quad)));
                        low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(v0, value));
                        high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(v1, value));
                    }
                    asm volatile("" ::: "memory");  // as in vnni512.hpp
                }
                const __m256 d = scales(w, half, block);
#pragma GCC unroll 16
                for (int r = 0; r < count; ++r) {
                    const __m256i in_order =
                        _mm256_permute4x64_epi64(_mm256_hadd_epi32(low[r], high[r]), 0xd8);
                    const __m256i integer =
                        _mm256_add_epi32(in_order, _mm256_set1_epi32(x.corrections[First + r]));
                    sum[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integer),
                                             _mm256_mul_ps(d, _mm256_set1_ps(x.scales[First + r])),
                                             sum[r]);
                }
                x = {x.values + Rows * 32, x.scales + Rows, x.corrections + Rows};
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < count; ++r) _mm256_storeu_ps(sums + (First + r) * sums_stride, sum[r]);
    }
};

}  // namespace HYDRALM_NAMESPACE::simd::detail

#endif
