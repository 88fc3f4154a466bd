// byte_dot by AVX-512's vpdpbusd: 16 outputs × 4 inputs an instruction.
//
// Rows × Panels integer sums and as many float ones stay in registers. The integer sums begin as
// the corrections, which costs no more than zeros.
#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include "hydralm/simd/byte_dot/leaf.hpp"

namespace HYDRALM_NAMESPACE::simd::detail {

struct Vnni512 {
    static constexpr const char* name = "avx512-vnni";
    static bool available() noexcept {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vnni");
    }
    static constexpr bool certain = false;  // not named in HYDRALM_ABI: units may differ in it

    // A mask that leaves nothing out, and costs nothing: without one g++ 12 warns of its own code.
    static constexpr auto all = static_cast<__mmask16>(-1);

    [[gnu::target("avx512f,avx512bw,avx512vnni"), gnu::always_inline]]
    static inline __m512i values_of(__m512i nibbles) noexcept {
        const __m512i table = _mm512_maskz_broadcast_i32x4(
            all, _mm_load_si128(reinterpret_cast<const __m128i*>(nibble_values.data())));
        return _mm512_shuffle_epi8(table, _mm512_and_si512(nibbles, _mm512_set1_epi8(15)));
    }
    template <bool Nibbles>
    [[gnu::target("avx512f,avx512bw,avx512vnni"), gnu::always_inline]]
    static inline __m512i line(const std::uint8_t* pair, int block, int quad) noexcept {
        if constexpr (!Nibbles) {
            return _mm512_load_si512(pair + 64 + block * 512 + quad * 64);
        } else {
            const __m512i both = _mm512_load_si512(pair + 64 + quad * 64);
            return values_of(block == 0 ? both : _mm512_srli_epi16(both, 4));
        }
    }

    template <bool Nibbles, int Rows, int Panels>
    [[gnu::target("avx512f,avx512bw,avx512vnni")]]
    static void tile(const ByteRows& rows, const std::uint8_t* const* panels, Index pairs,
                     const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        constexpr Index bytes = Nibbles ? nibble_pair : byte_pair;
        constexpr std::size_t R = Rows, P = Panels;
        // A row alone with 4 bits waits for memory in every line: it asks for one line at a time.
        constexpr bool line_by_line = Nibbles && Rows == 1 && Panels == 4;
        ByteRows x = rows;
        const std::uint8_t *w[P], *later[P];
        __m512 sum[R][P];
#pragma GCC unroll 16
        for (int p = 0; p < Panels; ++p) {
            w[p] = panels[p];
            later[p] = fetch.from == nullptr ? panels[p] : fetch.from[p];
        }
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
            for (int p = 0; p < Panels; ++p)
                sum[r][p] =
                    fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * sums_stride + p * 16);
        for (Index i = 0; i < pairs; ++i) {
#pragma GCC unroll 16
            for (int p = 0; p < Panels; ++p) {
                if constexpr (line_by_line) __builtin_prefetch(later[p], 0, 3);
                else fetch_pair(fetch, p, i);
            }
#pragma GCC unroll 2
            for (int block = 0; block < 2; ++block) {
                __m512i acc[R][P];
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
                    for (int p = 0; p < Panels; ++p)
                        acc[r][p] = _mm512_set1_epi32(x.corrections[r]);
#pragma GCC unroll 8
                for (int quad = 0; quad < 8; ++quad) {
                    __m512i v[P];
#pragma GCC unroll 16
                    for (int p = 0; p < Panels; ++p) {
                        v[p] = line<Nibbles>(w[p], block, quad);
                        if (line_by_line && block == 0)
                            __builtin_prefetch(later[p] + 64 + quad * 64, 0, 3);
                    }
#pragma GCC unroll 16
                    for (int r = 0; r < Rows; ++r) {
                        __m512i value = _mm512_set1_epi32(quad_of(x.values, r, quad));
                        asm("" : "+v"(value));  // one broadcast for all panels
#pragma GCC unroll 16
                        for (int p = 0; p < Panels; ++p)
                            acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], v[p], value);
                    }
                    // or g++ 12 gathers the broadcasts of all quads, and spills
                    asm volatile("" ::: "memory");
                }
#pragma GCC unroll 16
                for (int p = 0; p < Panels; ++p) {
                    const __m512 d = _mm512_maskz_cvtph_ps(
                        all,
                        _mm256_load_si256(reinterpret_cast<const __m256i*>(w[p] + block * 32)));
#pragma GCC unroll 16
                    for (int r = 0; r < Rows; ++r)
                        sum[r][p] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, acc[r][p]),
                                                    _mm512_mul_ps(d, _mm512_set1_ps(x.scales[r])),
                                                    sum[r][p]);
                }
                x = {x.values + Rows * 32, x.scales + Rows, x.corrections + Rows};
            }
#pragma GCC unroll 16
            for (int p = 0; p < Panels; ++p) {
                w[p] += bytes;
                later[p] += bytes;
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
            for (int p = 0; p < Panels; ++p)
                _mm512_storeu_ps(sums + r * sums_stride + p * 16, sum[r][p]);
    }

    [[gnu::target("avx512f,avx512bw,avx512vnni")]]
    static void widen(const std::uint8_t* from, std::uint8_t* to, Index pairs) noexcept {
        for (Index i = 0; i < pairs; ++i, from += nibble_pair, to += byte_pair) {
            _mm512_store_si512(to, _mm512_load_si512(from));
            for (int quad = 0; quad < 8; ++quad) {
                _mm512_store_si512(to + 64 + quad * 64, line<true>(from, 0, quad));
                _mm512_store_si512(to + 576 + quad * 64, line<true>(from, 1, quad));
            }
        }
    }
};

}  // namespace HYDRALM_NAMESPACE::simd::detail

#endif
