// Sliding-window attention of one token against a ring of keys and values: one read of each,
// streaming softmax.
//
// Matches the last row of window_attention_reference over the same keys, to rounding. Slots are
// taken in the order of the ring, in blocks of 64; dimensions stand in the lanes.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/math.hpp"
#include "hydralm/simd/sum_each.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// A row of D elements as batches, the last one padded with zeros.
template <Index D, Real T>
struct RowBatches {
    static constexpr Index lanes = simd::lanes<T>;
    static constexpr Index count = ceil_div(D, lanes);

    template <Index C>
    [[gnu::always_inline]] static simd::Batch<T> load(const T* row) noexcept {
        if constexpr ((C + 1) * lanes <= D) return simd::load(row + C * lanes);
        else return simd::load_partial(row + C * lanes, D % lanes);
    }
    template <Index C>
    [[gnu::always_inline]] static void store(T* row, const simd::Batch<T>& x) noexcept {
        if constexpr ((C + 1) * lanes <= D) simd::store(row + C * lanes, x);
        else simd::store_partial(row + C * lanes, x, D % lanes);
    }
};

}  // namespace detail

// out = Σ_j p_j v_j,  p = softmax_j(q·k_j/√D) over the slots j < count.
//   q               [D], rotated
//   keys, values    [≥ count, D]: the ring, in any order of slots, the token itself included
//   count           min(position + 1, W) ≥ 1
//   out             [D], written; may be q
// No allocation. Cost: 4·D FLOP per slot, 2·count·D elements read once. Source: SPEC.md §4; arXiv
// 1805.02867.
template <Index D, Real T>
void window_attention_step(const std::type_identity_t<T>* q,
                           std::type_identity_t<MatrixView<const T>> keys,
                           std::type_identity_t<MatrixView<const T>> values, Index count,
                           T* out) noexcept {
    static_assert(
        D >= 4 && D % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    using Row = detail::RowBatches<D, T>;
    using Batch = simd::Batch<T>;
    constexpr Index lanes = simd::lanes<T>, block = 64;
    static_assert(block % lanes == 0);

    const Batch scale(std::numbers::log2e_v<T> / std::sqrt(static_cast<T>(D)));
    Batch query[Row::count], output[Row::count];
    simd::unroll<Row::count>([&](auto c) {
        query[c] = Row::template load<c>(q) * scale;
        output[c] = Batch(T(0));
    });
    alignas(alignment) std::array<T, static_cast<std::size_t>(block)> weights;
    T largest = std::numeric_limits<T>::lowest(), sum = 0;
    for (Index first = 0; first < count; first += block) {
        const Index rows = std::min(block, count - first), padded = round_up(rows, lanes);
        Batch top(largest);
        for (Index r = 0; r < padded; r += lanes) {
            std::array<Batch, static_cast<std::size_t>(lanes)> products;
            simd::unroll<lanes>([&](auto l) {
                const T* const key = keys.row(first + std::min<Index>(r + l, rows - 1));
                Batch s = query[0] * Row::template load<0>(key);
                simd::unroll<Row::count - 1>([&](auto c) {
                    s = simd::fma<T>(query[c + 1], Row::template load<c + 1>(key), s);
                });
                products[l] = s;
            });
            const Batch scores = simd::sum_each<T>(products);
            simd::store(weights.data() + r, scores);
            top = simd::max<T>(top, scores);
        }
        std::fill(weights.data() + rows, weights.data() + padded,
                  -std::numeric_limits<T>::infinity());
        const T new_largest = simd::reduce_max<T>(top);
        const T factor = std::exp2(largest - new_largest);
        largest = new_largest;
        Batch total(T(0));
        for (Index r = 0; r < padded; r += lanes) {
            const Batch p = simd::exp2_finite<T>(simd::load(weights.data() + r) - Batch(largest));
            simd::store(weights.data() + r, p);
            total = total + p;
        }
        sum = sum * factor + simd::reduce_add<T>(total);
        simd::unroll<Row::count>([&](auto c) { output[c] = output[c] * Batch(factor); });
        for (Index r = 0; r < rows; ++r) {
            const Batch p(weights[static_cast<std::size_t>(r)]);
            const T* const value = values.row(first + r);
            simd::unroll<Row::count>([&](auto c) {
                output[c] = simd::fma<T>(p, Row::template load<c>(value), output[c]);
            });
        }
    }
    const Batch inverse(T(1) / sum);
    simd::unroll<Row::count>([&](auto c) { Row::template store<c>(out, output[c] * inverse); });
}

}  // namespace HYDRALM_NAMESPACE::kernels
