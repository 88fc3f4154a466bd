// Gradients of sliding-window attention. Probabilities are computed again, tile by tile, from q, k
// and log_sum_exp.
//
// Matches window_attention_backward_reference within 2·10⁻⁵ of the largest gradient in float.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <type_traits>

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/window_attention/step.hpp"
#include "hydralm/kernels/window_attention/tile.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// gradient[r, :] += Σ_{i < queries} weights[r, i] · rows[i, :], r < Rows; rows [·, D] strided.
template <class Tile, Index D, Index Rows, Real T>
[[gnu::always_inline]] inline void add_weighted_rows(const T* weights, const T* rows,
                                                     Index row_stride, Index queries, T* gradient,
                                                     Index stride) noexcept {
    using Row = RowBatches<D, T>;
    const auto run = [&]<Index Width>(std::integral_constant<Index, Width>,
                                      auto first) __attribute__((always_inline)) {
        LocalGrid<simd::Batch<T>, Rows, Width> sum;
        simd::unroll<Rows>([&](auto r) {
            simd::unroll<Width>(
                [&](auto c) { sum[r][c] = Row::template load<first + c>(gradient + r * stride); });
        });
        for (Index i = 0; i < queries; ++i) {
            LocalArray<simd::Batch<T>, Width> x;
            simd::unroll<Width>(
                [&](auto c) { x[c] = Row::template load<first + c>(rows + i * row_stride); });
            simd::unroll<Rows>([&](auto r) {
                const auto w = simd::broadcast(weights[r * Tile::strip + i]);
                simd::unroll<Width>([&](auto c) { sum[r][c] = simd::fma<T>(w, x[c], sum[r][c]); });
            });
        }
        simd::unroll<Rows>([&](auto r) {
            simd::unroll<Width>(
                [&](auto c) { Row::template store<first + c>(gradient + r * stride, sum[r][c]); });
        });
    };
    simd::unroll<Row::count / 2>([&](auto pair) {
        run(std::integral_constant<Index, 2>{}, std::integral_constant<Index, 2 * pair>{});
    });
    if constexpr (Row::count % 2 != 0)
        run(std::integral_constant<Index, 1>{}, std::integral_constant<Index, Row::count - 1>{});
}

// A strip of queries in the backward pass.
template <class Tile, Index D, Real T>
struct AttentionGradientStrip {
    using Batch = simd::Batch<T>;

    T* queries;   // [D, strip], times log₂e/√D
    T* dout;      // [D, strip]
    T* dqueries;  // [D, strip]
    T* p;         // [keys of a tile, strip]
    T* ds;        // [keys of a tile, strip]
    T* level;     // [strip], log_sum_exp in units of log₂; ∞ for the queries that fill the strip up
    T* delta;     // [strip], dout·out

    explicit AttentionGradientStrip(Arena& arena) noexcept
        : queries(arena.take<T>(D * Tile::strip)),
          dout(arena.take<T>(D * Tile::strip)),
          dqueries(arena.take<T>(D * Tile::strip)),
          p(arena.take<T>(Tile::keys * Tile::strip)),
          ds(arena.take<T>(Tile::keys * Tile::strip)),
          level(arena.take<T>(Tile::strip)),
          delta(arena.take<T>(Tile::strip)) {}

    static constexpr Index bytes() noexcept {
        return 3 * arena_bytes<T>(D * Tile::strip) + 2 * arena_bytes<T>(Tile::keys * Tile::strip) +
               2 * arena_bytes<T>(Tile::strip);
    }

    void begin(MatrixView<const T> q, MatrixView<const T> out, MatrixView<const T> grad,
               const T* log_sum_exp) noexcept {
        const Index rows = q.rows();
        pack_strip<Tile, D>(q.data(), q.stride(), rows,
                            std::numbers::log2e_v<T> / std::sqrt(static_cast<T>(D)), queries);
        pack_strip<Tile, D>(grad.data(), grad.stride(), rows, T(1), dout);
        std::fill(dqueries, dqueries + D * Tile::strip, T(0));
        for (Index i = 0; i < Tile::strip; ++i) {
            level[i] = i < rows ? log_sum_exp[i] * std::numbers::log2e_v<T>
                                : std::numeric_limits<T>::infinity();
            delta[i] = i < rows ? dot(view<D>(grad.row(i)), in(out.row(i))) : T(0);
        }
    }

    // p and ds of rows keys, and what they add to dqueries. visible(r, b, probability) masks.
    template <Index Batches, class Visible>
    void take(const T* keys, Index key_stride, const T* values, Index value_stride, Index rows,
              Index first_batch, const Visible& visible) noexcept {
        const Index lane = first_batch * Tile::lanes;
        product<Tile, D, Batches>(keys, key_stride, rows, queries + lane, p + lane);
        product<Tile, D, Batches>(values, value_stride, rows, dout + lane, ds + lane);
        const Batch scale(T(1) / std::sqrt(static_cast<T>(D)));
        for (Index r = 0; r < rows; ++r)
            simd::unroll<Batches>([&](auto b) {
                const Index column = lane + b * Tile::lanes, at = r * Tile::strip + column;
                const Batch probability =
                    visible(r, simd::exp2<T>(simd::load(p + at) - simd::load(level + column)));
                simd::store(p + at, probability);
                simd::store(
                    ds + at,
                    probability * (simd::load(ds + at) - simd::load(delta + column)) * scale);
            });
        LocalArray<Batch, Batches> one;
        simd::unroll<Batches>([&](auto b) { one[b] = Batch(T(1)); });
        accumulate<Tile, D, Batches>(keys, key_stride, rows, ds + lane, one, dqueries + lane);
    }

    // What p and ds of rows keys add to the gradients of those keys and values.
    void give(MatrixView<const T> q, MatrixView<const T> grad, Index first_query,
              Index queries_count, MatrixView<T> dkeys, MatrixView<T> dvalues) const noexcept {
        const auto add = [&](const T* weights, MatrixView<const T> rows, MatrixView<T> gradient) {
            const T* const x = rows.row(first_query);
            Index r = 0;
            for (; r + Tile::rows <= gradient.rows(); r += Tile::rows)
                add_weighted_rows<Tile, D, Tile::rows>(weights + r * Tile::strip + first_query, x,
                                                       rows.stride(), queries_count,
                                                       gradient.row(r), gradient.stride());
            for (; r < gradient.rows(); ++r)
                add_weighted_rows<Tile, D, 1>(weights + r * Tile::strip + first_query, x,
                                              rows.stride(), queries_count, gradient.row(r),
                                              gradient.stride());
        };
        add(ds, q, dkeys);
        add(p, grad, dvalues);
    }

    void end(MatrixView<T> dq) const noexcept {
        for (Index i = 0; i < dq.rows(); ++i)
            for (Index d = 0; d < D; ++d) dq(i, d) = dqueries[d * Tile::strip + i];
    }
};

}  // namespace detail

// Bytes of arena that window_attention_backward takes, for any N and W.
template <Real T, Index D, Index Queries = 0>
constexpr Index window_attention_backward_workspace_bytes() noexcept {
    return detail::AttentionGradientStrip<detail::AttentionTile<T, Queries>, D, T>::bytes();
}

// Gradients of window_attention (formulas: window_attention_backward_reference); one head, one
// thread.
//   q, keys, values, window, first_position, out, log_sum_exp   as in and from the forward pass
//   dout            [N, D], ∂L/∂out
//   dq              [N, D], written; aliases nothing
//   dkeys, dvalues  [P + N, D], written (0 for keys no query sees); alias nothing
//   arena           window_attention_backward_workspace_bytes<T, D, Queries>()
// No allocation. Cost: 10·D FLOP and one exponential per visible pair.
// Source: Dao et al., arXiv 2205.14135, algorithm 4.
template <Index D, Index Queries = 0, class Q, Index Cols, class T = std::remove_const_t<Q>>
void window_attention_backward(
    MatrixView<Q, Cols> q, std::type_identity_t<MatrixView<const T>> keys,
    std::type_identity_t<MatrixView<const T>> values, Index window, std::int64_t first_position,
    std::type_identity_t<MatrixView<const T>> out, const std::type_identity_t<T>* log_sum_exp,
    std::type_identity_t<MatrixView<const T>> dout, std::type_identity_t<MatrixView<T>> dq,
    std::type_identity_t<MatrixView<T>> dkeys, std::type_identity_t<MatrixView<T>> dvalues,
    Arena& arena) noexcept {
    static_assert(
        D >= 4 && D % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    using Tile = detail::AttentionTile<T, Queries>;
    const Arena::Scope scope(arena);
    detail::AttentionGradientStrip<Tile, D, T> strip(arena);
    const Index past = keys.rows() - q.rows();
    const detail::AttentionRange range =
        detail::attention_range<Tile>(past, q.rows(), window, first_position);
    for (Index j = 0; j < keys.rows(); ++j) {
        std::fill_n(dkeys.row(j), D, T(0));
        std::fill_n(dvalues.row(j), D, T(0));
    }
    const auto all = [](Index, const simd::Batch<T>& p) { return p; };
    for (Index i = 0; i < q.rows(); i += Tile::strip) {
        const Index rows = std::min(Tile::strip, q.rows() - i);
        const MatrixView<const T> strip_q = q.middle_rows(i, rows),
                                  strip_dout = dout.middle_rows(i, rows);
        strip.begin(strip_q, out.middle_rows(i, rows), strip_dout, log_sum_exp + i);
        const auto give = [&](Index first, Index last, Index query, Index queries) {
            strip.give(strip_q, strip_dout, query, std::min(queries, rows - query),
                       dkeys.middle_rows(first, last - first),
                       dvalues.middle_rows(first, last - first));
        };
        detail::for_key_tiles<Tile>(
            range, i,
            [&](Index first, Index last) {
                detail::for_groups<Tile>([&](auto count,
                                             Index batch) __attribute__((always_inline)) {
                    strip.template take<count>(keys.row(first), keys.stride(), values.row(first),
                                               values.stride(), last - first, batch, all);
                });
                give(first, last, 0, Tile::strip);
            },
            [&](Index first, Index last, Index batch, bool masked) {
                const auto take = [&](const auto& visible) {
                    strip.template take<1>(keys.row(first), keys.stride(), values.row(first),
                                           values.stride(), last - first, batch, visible);
                };
                const Index query = batch * Tile::lanes;
                if (masked)
                    take([&](Index r, const simd::Batch<T>& p) {
                        return detail::where_visible<T>(first + r, past + i + query, window, p,
                                                        simd::Batch<T>(T(0)));
                    });
                else take(all);
                if (query < rows) give(first, last, query, Tile::lanes);
            });
        strip.end(dq.middle_rows(i, rows));
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
