// What a leaf of byte_dot/ computes, whatever its instructions: sums of products of quantised rows
// with panels of 16 outputs (weights/quantised_matrix.hpp has their order), two blocks of 32 inputs
// at a time:
//   sum[r][o] ← fma(float(I), d[o] · s[r], sum[r][o]),   I = Σ q[r][i] · w[o][i], exactly, in int32
// for the blocks in order. Weights are stored as w + 128; where the instruction takes them so, I =
// Σ q · (w + 128) − 128 · Σ q. Every leaf gives the same bits.
#pragma once

#include <array>
#include <cstring>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::simd {

// A tile of rows at its first block: [blocks][rows] of everything, the rows' 32 values side by
// side.
struct ByteRows {
    const std::int8_t* values;        // in [−127, 127]
    const float* scales;              // s
    const std::int32_t* corrections;  // −128 · Σ of the 32 values
};

// Bytes of a pair of blocks of a panel of 8 and of 4 bits: 64 of scales, then lines of 64.
inline constexpr Index byte_pair = 1088, nibble_pair = 576;

// What to ask the memory for meanwhile: with the i-th pair of panel p, of the pair_bytes at from[p]
// + i · pair_bytes every step-th line, the first one first. Nothing is read; nothing need be there.
struct ByteFetch {
    const std::uint8_t* const* from = nullptr;  // null: for nothing
    Index pair_bytes = 0, first = 0, step = 1;
};

// sums[r · sums_stride + 16 · p + o]: read unless fresh, written. panels: as many as the function
// is for, 64-byte aligned.
using ByteDot = void (*)(const ByteRows& x, const std::uint8_t* const* panels, Index pairs,
                         const ByteFetch& fetch, float* sums, bool fresh) noexcept;
inline constexpr Index sums_stride = 64;

// How a row is multiplied alone, with four panels side by side, and tiles of 1 to 6 rows with two.
struct ByteDotForms {
    ByteDot alone;
    std::array<ByteDot, 6> tiles;
};

struct ByteDotLeaf {
    const char* name;
    bool (*available)() noexcept;  // whether this machine has what it needs
    ByteDotForms bytes, nibbles;
    // The pairs of a panel of 4 bits as pairs of 8 bits. to: 64-byte aligned.
    void (*widen)(const std::uint8_t* from, std::uint8_t* to, Index pairs) noexcept;
};

namespace detail {

// A leaf is a class with name, available and widen as below, template <bool Nibbles, int Rows, int
// Panels> tile, and certain: whether every machine that this unit is compiled for has what it
// needs.
template <class Leaf, bool Nibbles>
inline constexpr ByteDotForms byte_dot_forms{
    Leaf::template tile<Nibbles, 1, 4>,
    {Leaf::template tile<Nibbles, 1, 2>, Leaf::template tile<Nibbles, 2, 2>,
     Leaf::template tile<Nibbles, 3, 2>, Leaf::template tile<Nibbles, 4, 2>,
     Leaf::template tile<Nibbles, 5, 2>, Leaf::template tile<Nibbles, 6, 2>}};

template <class Leaf>
inline constexpr ByteDotLeaf byte_dot_leaf{Leaf::name, Leaf::available, byte_dot_forms<Leaf, false>,
                                           byte_dot_forms<Leaf, true>, Leaf::widen};

// The 16 values of 4 bits (GGUF's IQ4_NL), as they are stored in 8.
alignas(16) inline constexpr std::array<std::uint8_t, 16> nibble_values{
    1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

// Four values of a row as one word.
[[gnu::always_inline]] inline int quad_of(const std::int8_t* values, Index row, Index quad) {
    int word;
    std::memcpy(&word, values + row * 32 + quad * 4, sizeof word);
    return word;
}

[[gnu::always_inline]] inline void fetch_pair(const ByteFetch& fetch, int panel, Index pair) {
    if (fetch.from == nullptr) return;
    const std::uint8_t* const at = fetch.from[panel] + pair * fetch.pair_bytes;
    for (Index line = 64 * fetch.first; line < fetch.pair_bytes; line += 64 * fetch.step)
        __builtin_prefetch(at + line, 0, 3);
}

// widen for machines without a shuffle of bytes.
inline void widen_nibbles(const std::uint8_t* from, std::uint8_t* to, Index pairs) noexcept {
    for (Index p = 0; p < pairs; ++p, from += nibble_pair, to += byte_pair) {
        std::memcpy(to, from, 64);
        for (Index i = 0; i < 512; ++i) {
            to[64 + i] = nibble_values[from[64 + i] & 15];
            to[576 + i] = nibble_values[from[64 + i] >> 4];
        }
    }
}

// A tile of 4 bits by the one of 8, pair by pair.
template <class Leaf, int Rows, int Panels>
void tile_by_widening(ByteRows x, const std::uint8_t* const* panels, Index pairs, float* sums,
                      bool fresh) noexcept {
    alignas(alignment) LocalGrid<std::uint8_t, Panels, byte_pair> wide;
    std::array<const std::uint8_t*, static_cast<std::size_t>(Panels)> at;
    for (Index i = 0; i < pairs; ++i) {
        for (std::size_t p = 0; p < at.size(); ++p) {
            Leaf::widen(panels[p] + i * nibble_pair, wide[p], 1);
            at[p] = wide[p];
        }
        Leaf::template tile<false, Rows, Panels>(x, at.data(), 1, {}, sums, fresh && i == 0);
        x = {x.values + 64 * Rows, x.scales + 2 * Rows, x.corrections + 2 * Rows};
    }
}

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE::simd
