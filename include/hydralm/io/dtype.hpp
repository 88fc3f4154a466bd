// DType: the element types of a safetensors file, and their conversion from and to what the library
// computes in.
//
// Files are little-endian, and so are the machines this compiles for. Reading is exact for every
// source but F64 → float, which rounds to nearest even; writing BF16 rounds to nearest even.
// Infinities, subnormals and NaN survive.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "hydralm/core/bfloat16.hpp"
#include "hydralm/core/binary16.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

static_assert(std::endian::native == std::endian::little,
              "hydralm: io: files are little-endian; a big-endian machine is not supported");

enum class DType : std::uint8_t {
    f64,
    f32,
    f16,
    bf16,
    i64,
    i32,
    i16,
    i8,
    u64,
    u32,
    u16,
    u8,
    boolean,
    f8_e4m3,
    f8_e5m2
};

namespace detail {

struct DTypeRow {
    std::string_view name;
    int bytes;
};
inline constexpr std::array<DTypeRow, 15> dtype_rows{{{"F64", 8},
                                                      {"F32", 4},
                                                      {"F16", 2},
                                                      {"BF16", 2},
                                                      {"I64", 8},
                                                      {"I32", 4},
                                                      {"I16", 2},
                                                      {"I8", 1},
                                                      {"U64", 8},
                                                      {"U32", 4},
                                                      {"U16", 2},
                                                      {"U8", 1},
                                                      {"BOOL", 1},
                                                      {"F8_E4M3", 1},
                                                      {"F8_E5M2", 1}}};

}  // namespace detail

// As a safetensors header spells it.
constexpr std::string_view name(DType dtype) noexcept {
    return detail::dtype_rows[static_cast<std::size_t>(dtype)].name;
}
// Of one element.
constexpr Index byte_size(DType dtype) noexcept {
    return detail::dtype_rows[static_cast<std::size_t>(dtype)].bytes;
}
// Nothing when the name is unknown.
constexpr std::optional<DType> dtype_named(std::string_view name) noexcept {
    for (std::size_t i = 0; i < detail::dtype_rows.size(); ++i)
        if (detail::dtype_rows[i].name == name) return static_cast<DType>(i);
    return std::nullopt;
}

// Those that read as float and double, and those that read as integers.
constexpr bool is_floating(DType d) noexcept {
    return d == DType::f64 || d == DType::f32 || d == DType::f16 || d == DType::bf16;
}
constexpr bool is_index(DType d) noexcept { return d == DType::i64 || d == DType::i32; }

namespace detail {

// to[j] = convert(From at byte offset j·sizeof(From)), n elements; from may have any alignment.
// Blocks of constant length, staged in registers, so that compilers turn them into SIMD.
template <class From, class To, class F>
void convert_elements(const std::byte* from, To* to, Index n, F convert) noexcept {
    constexpr Index block = 64;
    From staged[block];
    for (; n >= block; n -= block, from += sizeof(staged), to += block) {
        std::memcpy(staged, from, sizeof(staged));
        for (Index j = 0; j < block; ++j) to[j] = convert(staged[j]);
    }
    if (n > 0) std::memcpy(staged, from, static_cast<std::size_t>(n) * sizeof(From));
    for (Index j = 0; j < n; ++j) to[j] = convert(staged[j]);
}

}  // namespace detail

// n elements of a floating dtype at `from` (any alignment) become to[0, n). Allocates nothing.
// is_floating(dtype).
template <Real T>
void convert(DType dtype, const std::byte* from, T* to, Index n) noexcept {
    if (dtype == (std::same_as<T, float> ? DType::f32 : DType::f64)) {
        if (n > 0) std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
        return;
    }
    const auto plain = [](auto x) { return static_cast<T>(x); };
    switch (dtype) {
        case DType::f64: detail::convert_elements<double>(from, to, n, plain); break;
        case DType::f32: detail::convert_elements<float>(from, to, n, plain); break;
        case DType::f16:
            detail::convert_elements<std::uint16_t>(
                from, to, n, [](auto x) { return static_cast<T>(float_from_f16(x)); });
            break;
        case DType::bf16:
            detail::convert_elements<std::uint16_t>(
                from, to, n, [](auto x) { return static_cast<T>(float_from_bf16(x)); });
            break;
        default: break;
    }
}

}  // namespace HYDRALM_NAMESPACE
