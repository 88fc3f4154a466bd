// byte_dot by SSE2, which every x86-64 has: products of 16-bit words, four outputs at a time.
//
// There is no fused multiply-add: it is made of doubles. The product is exact in double; its sum
// with the addend is rounded to odd, so that rounding it to float once more is rounding once
// (Boldo & Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
#pragma once

#if defined(__x86_64__)

#include <emmintrin.h>

#include "hydralm/simd/byte_dot/leaf.hpp"

namespace HYDRALM_NAMESPACE::simd::detail {

struct Sse2 {
    static constexpr const char* name = "sse2";
    static constexpr bool certain = true;
    static bool available() noexcept { return true; }
    static constexpr auto widen = widen_nibbles;

    template <bool Nibbles, int Rows, int Panels>
    static void tile(const ByteRows& rows, const std::uint8_t* const* panels, Index pairs,
                     const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        if constexpr (Nibbles) {
            tile_by_widening<Sse2, Rows, Panels>(rows, panels, pairs, sums, fresh);
        } else {
            for (int p = 0; p < Panels; ++p)
                for (int quarter = 0; quarter < 4; ++quarter)
                    four_outputs<Rows>(rows, panels[p], p, quarter, pairs, fetch,
                                       sums + p * 16 + quarter * 4, fresh);
        }
    }

private:
    template <int Rows>
    static void four_outputs(ByteRows x, const std::uint8_t* w, int panel, int quarter, Index pairs,
                             const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        constexpr std::size_t R = Rows;
        __m128 sum[R];
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
            sum[r] = fresh ? _mm_setzero_ps() : _mm_loadu_ps(sums + r * sums_stride);
        for (Index i = 0; i < pairs; ++i, w += byte_pair) {
            if (quarter == 0) fetch_pair(fetch, panel, i);
            for (int block = 0; block < 2; ++block) {
                __m128i low[R], high[R];  // outputs 0, 1 and 2, 3, two words each
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm_setzero_si128();
                for (int quad = 0; quad < 8; ++quad) {
                    const __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(
                        w + 64 + block * 512 + quad * 64 + quarter * 16));
                    const __m128i v0 = _mm_unpacklo_epi8(v, _mm_setzero_si128());
                    const __m128i v1 = _mm_unpackhi_epi8(v, _mm_setzero_si128());
#pragma GCC unroll 16
                    for (int r = 0; r < Rows; ++r) {
                        const __m128i bytes = _mm_set1_epi32(quad_of(x.values, r, quad));
                        const __m128i value = _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
                        low[r] = _mm_add_epi32(low[r], _mm_madd_epi16(v0, value));
                        high[r] = _mm_add_epi32(high[r], _mm_madd_epi16(v1, value));
                    }
                }
                const __m128 d = scales(w + block * 32 + quarter * 8);
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r) {
                    const __m128 a = _mm_castsi128_ps(low[r]), b = _mm_castsi128_ps(high[r]);
                    const __m128i integer =
                        _mm_add_epi32(_mm_set1_epi32(x.corrections[r]),
                                      _mm_add_epi32(_mm_castps_si128(_mm_shuffle_ps(a, b, 0x88)),
                                                    _mm_castps_si128(_mm_shuffle_ps(a, b, 0xdd))));
                    sum[r] = multiply_add(integer, _mm_mul_ps(d, _mm_set1_ps(x.scales[r])), sum[r]);
                }
                x = {x.values + Rows * 32, x.scales + Rows, x.corrections + Rows};
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) _mm_storeu_ps(sums + r * sums_stride, sum[r]);
    }

    // Four binary16 as floats. Moved into the upper bits, the exponent is short of 112: one product
    // mends it, subnormals too; infinities and NaN get theirs whole.
    static __m128 scales(const std::uint8_t* halves) noexcept {
        const __m128i h = _mm_unpacklo_epi16(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(halves)), _mm_setzero_si128());
        const __m128i magnitude = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
        const __m128 value =
            _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(magnitude, 13)), _mm_set1_ps(0x1p112F));
        const __m128i special = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)),
                                              _mm_set1_epi32(0x7f800000));
        const __m128i sign = _mm_slli_epi32(_mm_xor_si128(h, magnitude), 16);
        return _mm_or_ps(value, _mm_castsi128_ps(_mm_or_si128(special, sign)));
    }

    // fma(float(integer), factor, addend), |integer| < 2²⁴.
    static __m128 multiply_add(__m128i integer, __m128 factor, __m128 addend) noexcept {
        const __m128 low = _mm_cvtpd_ps(rounded_to_odd(
            _mm_mul_pd(_mm_cvtepi32_pd(integer), _mm_cvtps_pd(factor)), _mm_cvtps_pd(addend)));
        const __m128 high = _mm_cvtpd_ps(
            rounded_to_odd(_mm_mul_pd(_mm_cvtepi32_pd(_mm_shuffle_epi32(integer, 0xee)),
                                      _mm_cvtps_pd(_mm_movehl_ps(factor, factor))),
                           _mm_cvtps_pd(_mm_movehl_ps(addend, addend))));
        return _mm_movelh_ps(low, high);
    }
    // a + b. Where that is not exact and its last bit is even, the neighbour on the other side.
    static __m128d rounded_to_odd(__m128d a, __m128d b) noexcept {
        const __m128d sum = _mm_add_pd(a, b), of_b = _mm_sub_pd(sum, a);
        const __m128d error = _mm_add_pd(_mm_sub_pd(a, _mm_sub_pd(sum, of_b)), _mm_sub_pd(b, of_b));
        const __m128d zero = _mm_setzero_pd(), negative = _mm_cmplt_pd(sum, zero);
        const __m128d over = _mm_cmplt_pd(error, zero), under = _mm_cmpgt_pd(error, zero);
        // all ones where the magnitude is one too large, or too small
        const __m128d less = _mm_or_pd(_mm_andnot_pd(negative, over), _mm_and_pd(negative, under));
        const __m128d more = _mm_or_pd(_mm_andnot_pd(negative, under), _mm_and_pd(negative, over));
        const __m128i bits = _mm_castpd_si128(sum), one = _mm_set_epi32(0, 1, 0, 1);
        const __m128i even = _mm_sub_epi64(_mm_and_si128(bits, one), one);  // all ones, or 0
        const __m128i step = _mm_sub_epi64(_mm_castpd_si128(less), _mm_castpd_si128(more));
        return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_and_si128(step, even)));
    }
};

}  // namespace HYDRALM_NAMESPACE::simd::detail

#endif
