// Scalars, indices and extents shared by every floor.
//
// Dimension letters, used everywhere with these meanings: B sequences, N tokens of one sequence, d
// d_model, H heads, D head_dim, I = H·D, C chunk size, W window, V vocabulary, K short-convolution
// taps.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

using Index = std::ptrdiff_t;  // sizes, extents, strides: signed, so that differences are safe
using token_id = std::int32_t;

template <class T>
concept Real = std::same_as<T, float> || std::same_as<T, double>;

inline constexpr std::size_t alignment =
    64;  // of every buffer the library allocates, whatever the -m flags

// n rounded up to a multiple of m.  n ≥ 0, m > 0.
constexpr Index round_up(Index n, Index m) noexcept { return (n + m - 1) / m * m; }
constexpr Index ceil_div(Index n, Index m) noexcept { return (n + m - 1) / m; }

// T x[n] and T x[rows][cols] with extents of type Index, which -Wsign-conversion would not let
// stand.
template <class T, Index n>
using LocalArray = T[static_cast<std::size_t>(n)];
template <class T, Index rows, Index cols>
using LocalGrid = T[static_cast<std::size_t>(rows)][static_cast<std::size_t>(cols)];

}  // namespace HYDRALM_NAMESPACE
