// byte_dot in plain C++, for machines whose instructions no leaf is written for.
#pragma once

#include <cmath>

#include "hydralm/core/binary16.hpp"
#include "hydralm/simd/byte_dot/leaf.hpp"

namespace HYDRALM_NAMESPACE::simd::detail {

struct Portable {
    static constexpr const char* name = "portable";
    static constexpr bool certain = true;
    static bool available() noexcept { return true; }
    static constexpr auto widen = widen_nibbles;

    template <bool Nibbles, int Rows, int Panels>
    static void tile(const ByteRows& rows, const std::uint8_t* const* panels, Index pairs,
                     const ByteFetch& fetch, float* sums, bool fresh) noexcept {
        if constexpr (Nibbles) {
            tile_by_widening<Portable, Rows, Panels>(rows, panels, pairs, sums, fresh);
        } else {
            for (int p = 0; p < Panels; ++p)
                for (int r = 0; r < Rows; ++r) {
                    float* const to = sums + r * sums_stride + p * 16;
                    for (Index o = 0; fresh && o < 16; ++o) to[o] = 0;
                    for (Index i = 0; i < pairs; ++i) {
                        const std::uint8_t* const w = panels[p] + i * byte_pair;
                        if (r == 0) fetch_pair(fetch, p, i);
                        for (Index block = 0; block < 2; ++block)
                            add_block(rows, (2 * i + block) * Rows + r, w, block, to);
                    }
                }
        }
    }

private:
    // The block of 32 values at x, of a row, with the 16 outputs of a pair.
    static void add_block(const ByteRows& rows, Index x, const std::uint8_t* pair, Index block,
                          float* sums) noexcept {
        std::array<int, 16> integers;
        integers.fill(rows.corrections[x]);
        for (Index quad = 0; quad < 8; ++quad)
            for (Index o = 0; o < 16; ++o)
                for (Index i = 0; i < 4; ++i)
                    integers[static_cast<std::size_t>(o)] +=
                        pair[64 + block * 512 + quad * 64 + o * 4 + i] *
                        rows.values[x * 32 + quad * 4 + i];
        for (Index o = 0; o < 16; ++o) {
            std::uint16_t half;
            std::memcpy(&half, pair + (block * 16 + o) * 2, sizeof half);
            sums[o] = std::fma(static_cast<float>(integers[static_cast<std::size_t>(o)]),
                               float_from_f16(half) * rows.scales[x], sums[o]);
        }
    }
};

}  // namespace HYDRALM_NAMESPACE::simd::detail
