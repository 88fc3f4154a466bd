// byte_dot by NEON's dot product (Armv8.2 and later): 4 outputs × 4 inputs an instruction, both
// signed; weights are brought back from w + 128.
//
// A quarter of a panel at a time, 4 outputs.
#pragma once

#if defined(__aarch64__)

#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "hydralm/simd/byte_dot/leaf.hpp"

namespace HYDRALM_NAMESPACE::simd::detail {

struct NeonDot {
    static constexpr const char* name = "neon-dotprod";
#if defined(__ARM_FEATURE_DOTPROD)
    static constexpr bool certain = true;
#else
    static constexpr bool certain = false;
#endif
    static bool available() noexcept {
#if defined(__linux__)
        constexpr unsigned long dot_product = 1UL << 20;  // HWCAP_ASIMDDP
        return certain || (getauxval(AT_HWCAP) & dot_product) != 0;
#else
        return certain;
#endif
    }
    static constexpr auto widen = widen_nibbles;

    template <bool Nibbles, int Rows, int Panels>
    [[gnu::target("arch=armv8.2-a+dotprod")]]
    static void tile(const ByteRows& rows, const std::uint8_t* const* panels, Index pairs,
                     const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        constexpr Index bytes = Nibbles ? nibble_pair : byte_pair;
        constexpr std::size_t R = Rows;
        const int8x16_t table =
            vreinterpretq_s8_u8(veorq_u8(vld1q_u8(nibble_values.data()), vdupq_n_u8(128)));
        for (int p = 0; p < Panels; ++p)
            for (int quarter = 0; quarter < 4; ++quarter) {
                float* const to = sums + p * 16 + quarter * 4;
                const std::uint8_t* w = panels[p];
                ByteRows x = rows;
                float32x4_t sum[R];
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r)
                    sum[r] = fresh ? vdupq_n_f32(0) : vld1q_f32(to + r * sums_stride);
                for (Index i = 0; i < pairs; ++i, w += bytes) {
                    if (quarter == 0) fetch_pair(fetch, p, i);
#pragma GCC unroll 2
                    for (int block = 0; block < 2; ++block) {
                        int32x4_t acc[R];
#pragma GCC unroll 16
                        for (int r = 0; r < Rows; ++r) acc[r] = vdupq_n_s32(0);
#pragma GCC unroll 8
                        for (int quad = 0; quad < 8; ++quad) {
                            const std::uint8_t* const line =
                                w + 64 + (Nibbles ? 0 : block * 512) + quad * 64 + quarter * 16;
                            const uint8x16_t stored = vld1q_u8(line);
                            int8x16_t v;
                            if constexpr (Nibbles)
                                v = vqtbl1q_s8(table, block == 0 ? vandq_u8(stored, vdupq_n_u8(15))
                                                                 : vshrq_n_u8(stored, 4));
                            else v = vreinterpretq_s8_u8(veorq_u8(stored, vdupq_n_u8(128)));
#pragma GCC unroll 16
                            for (int r = 0; r < Rows; ++r)
                                acc[r] = vdotq_s32(
                                    acc[r], v,
                                    vreinterpretq_s8_s32(vdupq_n_s32(quad_of(x.values, r, quad))));
                        }
                        const float32x4_t d = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(
                            reinterpret_cast<const std::uint16_t*>(w + block * 32 + quarter * 8))));
#pragma GCC unroll 16
                        for (int r = 0; r < Rows; ++r)
                            sum[r] = vfmaq_f32(sum[r], vcvtq_f32_s32(acc[r]),
                                               vmulq_n_f32(d, x.scales[r]));
                        x = {x.values + Rows * 32, x.scales + Rows, x.corrections + Rows};
                    }
                }
#pragma GCC unroll 16
                for (int r = 0; r < Rows; ++r) vst1q_f32(to + r * sums_stride, sum[r]);
            }
    }
};

}  // namespace HYDRALM_NAMESPACE::simd::detail

#endif
