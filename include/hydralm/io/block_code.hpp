// BlockCode: how the weights of a row are written as blocks of bytes, and what such a block says.
//
// The layouts are ggml's; Q8_0 and IQ4_NL are the blocks of weights/quantised_block.hpp. A block of
// 256 ("K") has scales of parts of it, themselves in few bits. All values are exact products of
// what is written, rounded once to float where they have more bits than that.
// Source: github.com/ggml-org/ggml, src/ggml-common.h (layouts), docs of the GGUF format.
#pragma once

#include <array>
#include <cstring>
#include <string_view>

#include "hydralm/core/binary16.hpp"
#include "hydralm/core/types.hpp"
#include "hydralm/weights/format.hpp"
#include "hydralm/weights/quantised_block.hpp"

namespace HYDRALM_NAMESPACE {

struct BlockCode {
    static constexpr Index most_weights = 256;

    std::string_view name;
    Index weights;         // of a block
    Index bytes;           // of a block
    weights::Format kept;  // what a model of float keeps them in, unless asked otherwise
    // to[0, weights) = the weights of the block at `from`, of any alignment.
    void (*decode)(const std::byte* from, float* to) noexcept;
};

namespace detail {

inline float scale_at(const std::byte* from) noexcept {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
    return float_from_f16(bits);
}
inline int byte_at(const std::byte* from, Index i) noexcept { return static_cast<int>(from[i]); }
inline int signed_at(const std::byte* from, Index i) noexcept {
    return static_cast<std::int8_t>(from[i]);
}
// 32 values in four bits: those of low nibbles, then those of high ones. f(nibble).
template <class F>
void nibbles(const std::byte* from, float* to, const F& f) noexcept {
    for (Index i = 0; i < 16; ++i) {
        to[i] = f(byte_at(from, i) & 15);
        to[i + 16] = f(byte_at(from, i) >> 4);
    }
}

inline void decode_q4_0(const std::byte* from, float* to) noexcept {
    const float d = scale_at(from);
    nibbles(from + 2, to, [d](int nibble) { return d * static_cast<float>(nibble - 8); });
}
// Of the library's own blocks.
template <class Block>
void decode_own(const std::byte* from, float* to) noexcept {
    const Block block = Block::at(from);
    for (Index i = 0; i < weights::block_size; ++i)
        to[i] = block.scale() * static_cast<float>(block.value(i));
}

// Scale and minimum of part j of 8, in six bits each: those of the first four parts in the low bits
// of bytes 0 to 7; of the others four bits in bytes 8 to 11, two above those of the first.
struct PartScale {
    int scale, minimum;
};
inline PartScale part_scale(const std::byte* from, Index j) noexcept {
    if (j < 4) return {byte_at(from, j) & 63, byte_at(from, j + 4) & 63};
    const int low = byte_at(from, j + 4);
    return {(low & 15) | byte_at(from, j - 4) >> 6 << 4, low >> 4 | byte_at(from, j) >> 6 << 4};
}

// Q4_K and Q5_K: d, dmin, 12 bytes of scales, a fifth bit of all values where there is one, four
// bits of them, 64 at a time. value = d·scale·q − dmin·minimum.
template <bool fifth_bit>
void decode_k_with_minimum(const std::byte* from, float* to) noexcept {
    const float d = scale_at(from), least = scale_at(from + 2);
    const std::byte* const scales = from + 4;
    const std::byte* const fifth = from + 16;
    const std::byte* low = from + (fifth_bit ? 48 : 16);
    for (Index part = 0; part < 8; ++part, to += 32) {
        const auto [scale, minimum] = part_scale(scales, part);
        const float step = d * static_cast<float>(scale), off = least * static_cast<float>(minimum);
        for (Index i = 0; i < 32; ++i) {
            int q = part % 2 == 0 ? byte_at(low, i) & 15 : byte_at(low, i) >> 4;
            if constexpr (fifth_bit) q |= (byte_at(fifth, i) >> part & 1) << 4;
            to[i] = step * static_cast<float>(q) - off;
        }
        if (part % 2 == 1) low += 32;
    }
}

// Four bits of 128 values twice, two bits of them, 16 signed scales, d; value = d·scale·(q − 32).
inline void decode_q6_k(const std::byte* from, float* to) noexcept {
    const float d = scale_at(from + 208);
    for (Index half = 0; half < 2; ++half)
        for (Index part = 0; part < 4; ++part)
            for (Index i = 0; i < 32; ++i) {
                const int four = byte_at(from, half * 64 + part % 2 * 32 + i) >> part / 2 * 4 & 15;
                const int two = byte_at(from + 128, half * 32 + i) >> 2 * part & 3;
                const int scale = signed_at(from + 192, half * 8 + part * 2 + i / 16);
                to[half * 128 + part * 32 + i] =
                    d * static_cast<float>(scale) * static_cast<float>((four | two << 4) - 32);
            }
}

// d, two high bits and four low ones of 8 scales, the values of IQ4_NL's table; value =
// d·(scale − 32)·entry.
inline void decode_iq4_xs(const std::byte* from, float* to) noexcept {
    const float d = scale_at(from);
    for (Index part = 0; part < 8; ++part, to += 32) {
        const int high = byte_at(from, 2 + part / 4) >> part % 4 * 2 & 3;
        const int low = byte_at(from, 4 + part / 2) >> part % 2 * 4 & 15;
        const float step = d * static_cast<float>((low | high << 4) - 32);
        nibbles(from + 8 + part * 16, to, [step](int nibble) {
            return step *
                   static_cast<float>(weights::Q4Block::table[static_cast<std::size_t>(nibble)]);
        });
    }
}

}  // namespace detail

// Those that are read. As blocks of q8, values of Q4_0 lose nothing.
namespace block_codes {

using weights::Format;

inline constexpr BlockCode q4_0{"Q4_0", 32, 18, Format::q8, detail::decode_q4_0};
inline constexpr BlockCode q8_0{"Q8_0", 32, 34, Format::q8, detail::decode_own<weights::Q8Block>};
inline constexpr BlockCode q4_k{"Q4_K", 256, 144, Format::q8, detail::decode_k_with_minimum<false>};
inline constexpr BlockCode q5_k{"Q5_K", 256, 176, Format::q8, detail::decode_k_with_minimum<true>};
inline constexpr BlockCode q6_k{"Q6_K", 256, 210, Format::q8, detail::decode_q6_k};
inline constexpr BlockCode iq4_nl{"IQ4_NL", 32, 18, Format::q4,
                                  detail::decode_own<weights::Q4Block>};
inline constexpr BlockCode iq4_xs{"IQ4_XS", 256, 136, Format::q8, detail::decode_iq4_xs};

}  // namespace block_codes

// The code of a format of blocks, as files have it; null for another.
constexpr const BlockCode* block_code(weights::Format format) noexcept {
    return format == weights::Format::q8   ? &block_codes::q8_0
           : format == weights::Format::q4 ? &block_codes::iq4_nl
                                           : nullptr;
}

}  // namespace HYDRALM_NAMESPACE
