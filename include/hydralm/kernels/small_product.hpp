// Small dense products on packed scratch: what backward passes and chunk-sparse attention are made
// of.
//
// One operand is broadcast element by element, with any strides (so Aᵀ B needs no copy of Aᵀ); the
// other and the result are rows of whole batches. Extents are run-time numbers, so that all head
// dimensions share the code.
#pragma once

#include <algorithm>

#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/transpose.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// Element (i, d) at data[i·row + d·column].
template <Real T>
struct Broadcast {
    const T* data;
    Index row;
    Index column;
};

template <Real T, Index R, Index V>
[[gnu::flatten]] void product_tile(Index inner, Broadcast<T> a, const T* b, Index b_stride, T* c,
                                   Index c_stride, bool add) noexcept {
    using simd::Batch;
    constexpr Index lanes = simd::lanes<T>;
    LocalGrid<Batch<T>, R, V> acc;
    simd::unroll<R>([&](auto r) {
        simd::unroll<V>([&](auto v) {
            acc[r][v] = add ? simd::load<T>(c + r * c_stride + v * lanes) : Batch<T>(T(0));
        });
    });
    for (Index d = 0; d < inner; ++d, b += b_stride, a.data += a.column) {
        LocalArray<Batch<T>, V> bd;
        simd::unroll<V>([&](auto v) { bd[v] = simd::load<T>(b + v * lanes); });
        simd::unroll<R>([&](auto r) {
            const Batch<T> ar(a.data[r * a.row]);
            simd::unroll<V>([&](auto v) { acc[r][v] = simd::fma(ar, bd[v], acc[r][v]); });
        });
    }
    simd::unroll<R>([&](auto r) {
        simd::unroll<V>([&](auto v) { simd::store<T>(c + r * c_stride + v * lanes, acc[r][v]); });
    });
}

// Rows in blocks of R, V batches of columns at a time; returns the first row left over.
template <Real T, Index R, Index V>
Index product_rows(Index first, Index rows, Index inner, Broadcast<T> a, const T* b, Index b_stride,
                   T* c, Index c_stride, bool add) noexcept {
    const Index end = first + (rows - first) / R * R;
    for (Index i = first; i < end; i += R)
        product_tile<T, R, V>(inner, {a.data + i * a.row, a.row, a.column}, b, b_stride,
                              c + i * c_stride, c_stride, add);
    return end;
}

// C[rows, width] = A[rows, inner] B[inner, width], or += when add. width: a multiple of lanes. An
// element is one chain over inner, whatever rows and width: a row's bits do not depend on the
// others.
template <Real T>
void product(Index rows, Index width, Index inner, Broadcast<T> a, const T* b, Index b_stride, T* c,
             Index c_stride, bool add) noexcept {
    constexpr Index lanes = simd::lanes<T>, R = simd::registers == 32 ? 8 : 4;
    const auto columns = [&]<Index V, Index... Blocks>(std::integral_constant<Index, V>,
                                                       std::integer_sequence<Index, Blocks...>,
                                                       Index first, Index rows_end, Index j) {
        ((first = product_rows<T, Blocks, V>(first, rows_end, inner, a, b + j, b_stride, c + j,
                                             c_stride, add)),
         ...);
    };
    using Two = std::integral_constant<Index, 2>;
    using One = std::integral_constant<Index, 1>;
    using Four = std::integral_constant<Index, 4>;
    const Index blocks = rows / 4 * 4;  // rows that have company; the others go wide
    Index j = 0;
    if (blocks < R)  // few rows wait for B, and read more of it at once
        for (; j + 4 * lanes <= width; j += 4 * lanes)
            columns(Four{}, std::integer_sequence<Index, 4>{}, 0, blocks, j);
    for (; j + 2 * lanes <= width; j += 2 * lanes)
        columns(Two{}, std::integer_sequence<Index, R, 4>{}, 0, blocks, j);
    for (; j < width; j += lanes)
        columns(One{}, std::integer_sequence<Index, R, 4>{}, 0, blocks, j);
    for (j = 0; j + 4 * lanes <= width; j += 4 * lanes)
        columns(Four{}, std::integer_sequence<Index, 1>{}, blocks, rows, j);
    for (; j + 2 * lanes <= width; j += 2 * lanes)
        columns(Two{}, std::integer_sequence<Index, 1>{}, blocks, rows, j);
    for (; j < width; j += lanes)
        columns(One{}, std::integer_sequence<Index, 1>{}, blocks, rows, j);
}

// to [cols, to_stride] = from [rows, from_stride] transposed; padding of to is zero.
template <Real T>
void transpose_padded(const T* from, Index rows, Index cols, Index from_stride, T* to,
                      Index to_stride) noexcept {
    for (Index j = 0; j < cols; ++j) {
        for (Index i = 0; i < rows; ++i) to[j * to_stride + i] = from[i * from_stride + j];
        std::fill(to + j * to_stride + rows, to + (j + 1) * to_stride, T(0));
    }
}

// c [cols, rows] = Bᵀ of b [rows, cols], both multiples of lanes.
template <Real T>
[[gnu::flatten]] void transpose(Index rows, Index cols, const T* b, T* c) noexcept {
    constexpr Index lanes = simd::lanes<T>;
    for (Index i = 0; i < rows; i += lanes) {
        for (Index j = 0; j < cols; j += lanes) {
            std::array<simd::Batch<T>, static_cast<std::size_t>(lanes)> square;
            simd::unroll<lanes>([&](auto l) { square[l] = simd::load<T>(b + (i + l) * cols + j); });
            simd::transpose<T>(square);
            simd::unroll<lanes>([&](auto l) { simd::store<T>(c + (j + l) * rows + i, square[l]); });
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
