// Sliding-window attention over any number of queries of one head, with a softmax that streams over
// tiles of keys.
//
// Matches window_attention_reference within 4·10⁻⁶ of the largest |out| in float (scores of size
// |s| add |s| ULP). Key tiles lie on absolute positions and a masked pair contributes exactly 0, so
// the bits of a row depend only on its query and the keys it sees: neither on how many queries come
// along, nor on where a sequence is cut.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <type_traits>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/window_attention/tile.hpp"
#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// Softmax state and output of a strip of queries. Scores are in units of log₂.
template <class Tile, Index D, Real T>
struct AttentionStrip {
    using Batch = simd::Batch<T>;

    T* queries;  // [D, strip], times log₂e/√D
    T* output;   // [D, strip], before division by sum
    T* weights;  // [keys of a tile, strip]
    T* largest;  // [strip], the largest score so far
    T* sum;      // [strip], Σ 2^(score − largest)

    explicit AttentionStrip(Arena& arena) noexcept
        : queries(arena.take<T>(D * Tile::strip)),
          output(arena.take<T>(D * Tile::strip)),
          weights(arena.take<T>(Tile::keys * Tile::strip)),
          largest(arena.take<T>(Tile::strip)),
          sum(arena.take<T>(Tile::strip)) {}

    static constexpr Index bytes() noexcept {
        return 2 * arena_bytes<T>(D * Tile::strip) + arena_bytes<T>(Tile::keys * Tile::strip) +
               2 * arena_bytes<T>(Tile::strip);
    }

    void begin(const T* q, Index stride, Index rows) noexcept {
        pack_strip<Tile, D>(q, stride, rows,
                            std::numbers::log2e_v<T> / std::sqrt(static_cast<T>(D)), queries);
        std::fill(output, output + D * Tile::strip, T(0));
        std::fill(largest, largest + Tile::strip, std::numeric_limits<T>::lowest());
        std::fill(sum, sum + Tile::strip, T(0));
    }

    // Takes in rows keys for Batches batches of queries from batch first_batch on. visible(r, b,
    // score) masks.
    template <Index Batches, class Visible>
    void take(const T* keys, Index key_stride, const T* values, Index value_stride, Index rows,
              Index first_batch, const Visible& visible) noexcept {
        const Index lane = first_batch * Tile::lanes;
        T* const w = weights + lane;
        product<Tile, D, Batches>(keys, key_stride, rows, queries + lane, w);
        LocalArray<Batch, Batches> top, total, factor;
        simd::unroll<Batches>(
            [&](auto b) { top[b] = simd::load(largest + lane + b * Tile::lanes); });
        for (Index r = 0; r < rows; ++r)
            simd::unroll<Batches>([&](auto b) {
                T* const at = w + r * Tile::strip + b * Tile::lanes;
                top[b] = simd::max<T>(top[b], visible(r, b, at));
            });
        simd::unroll<Batches>([&](auto b) {
            T* const at = largest + lane + b * Tile::lanes;
            factor[b] = simd::exp2_finite<T>(simd::load(at) - top[b]);
            simd::store(at, top[b]);
            total[b] = Batch(T(0));
        });
        for (Index r = 0; r < rows; ++r)
            simd::unroll<Batches>([&](auto b) {
                T* const at = w + r * Tile::strip + b * Tile::lanes;
                const Batch p = simd::exp2_finite<T>(simd::load(at) - top[b]);
                simd::store(at, p);
                total[b] = total[b] + p;
            });
        simd::unroll<Batches>([&](auto b) {
            T* const at = sum + lane + b * Tile::lanes;
            simd::store(at, simd::fma<T>(simd::load(at), factor[b], total[b]));
        });
        accumulate<Tile, D, Batches>(values, value_stride, rows, w, factor, output + lane);
    }

    void end(T* out, Index stride, Index rows, T* log_sum_exp) noexcept {
        constexpr Index L = Tile::lanes;
        constexpr Index squares = D / L * L;
        for (Index i = 0; i < rows; i += L) {
            const Batch inverse = Batch(T(1)) / simd::load(sum + i);
            for (Index d = 0; d < squares; d += L) {
                std::array<Batch, static_cast<std::size_t>(L)> x;
                simd::unroll<L>([&](auto l) {
                    x[l] = simd::load(output + (d + l) * Tile::strip + i) * inverse;
                });
                simd::transpose<T>(x);
                simd::unroll<L>([&](auto l) {
                    if (i + l < rows) simd::store<T>(out + (i + l) * stride + d, x[l]);
                });
            }
        }
        for (Index i = 0; i < rows; ++i) {
            const T inverse = T(1) / sum[i];
            for (Index d = squares; d < D; ++d)
                out[i * stride + d] = output[d * Tile::strip + i] * inverse;
            if (log_sum_exp != nullptr)
                log_sum_exp[i] = largest[i] * std::numbers::ln2_v<T> + std::log(sum[i]);
        }
    }
};

}  // namespace detail

// Bytes of arena that window_attention takes, for any N and W.
template <Real T, Index D, Index Queries = 0>
constexpr Index window_attention_workspace_bytes() noexcept {
    return detail::AttentionStrip<detail::AttentionTile<T, Queries>, D, T>::bytes();
}

// Queries: of a tile that is read against the keys at once, 0: the fastest for this instruction
// set.
//
// o_i = Σ_j p_ij v_j,  p_ij = softmax_j(q_i·k_j/√D),  j ∈ (P + i − W, P + i]; one head, one thread.
//   q               [N, D], rotated; N ≥ 0
//   keys, values    [P + N, D], rotated, finite: the P tokens before query 0, oldest first, then
//   one per query. P =
//                   min(first_position, W − 1) for exact results; rows beyond the window may be
//                   there and are not read
//   window          W ≥ 1
//   first_position  absolute position of query 0, ≥ P
//   out             [N, D], written; may be q, aliases nothing else
//   arena           window_attention_workspace_bytes<T, D, Queries>()
//   log_sum_exp     [N], ln Σ_j exp(q_i·k_j/√D), written for the backward pass; or null
// A part [a, b) of the queries on its own (another thread): q rows [a, b), keys rows [0, P + b),
// first_position + a. Same bits. Fastest where rows are contiguous or their stride is no multiple
// of 4096 bytes. No allocation. Cost: 4·D FLOP and one exponential per visible pair, the edges of
// the window rounded up to a batch. Source: SPEC.md §4; Milakov and Gimelshein, arXiv 1805.02867
// (streaming softmax); Dao et al., arXiv 2205.14135 (tiles).
template <Index D, Index Queries = 0, class Q, Index Cols, class T = std::remove_const_t<Q>>
void window_attention(MatrixView<Q, Cols> q, std::type_identity_t<MatrixView<const T>> keys,
                      std::type_identity_t<MatrixView<const T>> values, Index window,
                      std::int64_t first_position, std::type_identity_t<MatrixView<T>> out,
                      Arena& arena, std::type_identity_t<T>* log_sum_exp = nullptr) noexcept {
    static_assert(
        D >= 4 && D % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    using Tile = detail::AttentionTile<T, Queries>;
    const Arena::Scope scope(arena);
    detail::AttentionStrip<Tile, D, T> strip(arena);
    const Index past = keys.rows() - q.rows();
    const detail::AttentionRange range =
        detail::attention_range<Tile>(past, q.rows(), window, first_position);
    const auto as_scored = [](Index, auto, const T* score) { return simd::load(score); };
    for (Index i = 0; i < q.rows(); i += Tile::strip) {
        const Index rows = std::min(Tile::strip, q.rows() - i);
        strip.begin(q.row(i), q.stride(), rows);
        detail::for_key_tiles<Tile>(
            range, i,
            [&](Index first, Index last) {
                detail::for_groups<Tile>([&](auto count,
                                             Index batch) __attribute__((always_inline)) {
                    strip.template take<count>(keys.row(first), keys.stride(), values.row(first),
                                               values.stride(), last - first, batch, as_scored);
                });
            },
            [&](Index first, Index last, Index batch, bool masked) {
                const auto take = [&](const auto& visible) {
                    strip.template take<1>(keys.row(first), keys.stride(), values.row(first),
                                           values.stride(), last - first, batch, visible);
                };
                if (!masked) return take(as_scored);
                take([&](Index r, auto, T* score) {
                    const simd::Batch<T> hidden(-std::numeric_limits<T>::infinity());
                    const auto s =
                        detail::where_visible<T>(first + r, past + i + batch * Tile::lanes, window,
                                                 simd::load(score), hidden);
                    simd::store(score, s);
                    return s;
                });
            });
        strip.end(out.row(i), out.stride(), rows,
                  log_sum_exp == nullptr ? nullptr : log_sum_exp + i);
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
