// Attention of any number of queries of one group to the whole past, page by page, with a softmax
// that streams over the pages.
//
// Matches full_attention_reference over the keys and values as the pages keep them, within 4·10⁻⁶
// of the largest |out| in float, 10⁻¹⁴ in double (scores of size |s| add |s| ULP). Pages lie on
// absolute positions and no pair of a later token is touched, so the bits of a row depend only on
// its query and the tokens it sees: one token, a tile, and any cut of a text have the same.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/full_attention/past.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

inline constexpr Index full_rows = 32;  // queries that share a read of a page

// By which queries of a tile a page is seen: from `any` to `gone`; from `all` to `cut` (all ≤ cut)
// whole.
struct SeenBy {
    Index any, all, cut, gone;
};

// Queries first, first + 1, … of N tokens with `heads` heads each, head by head: what they see.
struct FullAttentionTile {
    Index first, count, heads;
    std::int64_t position;  // of the first token of all
    std::int64_t window;    // tokens that a query sees at most, its own included

    Index token(Index i) const noexcept { return (first + i) / heads; }
    Index head(Index i) const noexcept { return (first + i) % heads; }
    // How many tokens of the page that begins at token t query i sees with all before it, at most
    // C; and how many of these lie before its window.
    Index visible(Index i, std::int64_t t, Index C) const noexcept {
        return static_cast<Index>(std::clamp<std::int64_t>(position + token(i) + 1 - t, 0, C));
    }
    Index hidden(Index i, std::int64_t t, Index C) const noexcept {
        return static_cast<Index>(
            std::clamp<std::int64_t>(position + token(i) + 1 - window - t, 0, C));
    }
    // Chunk of C tokens that query i lies in.
    Index chunk(Index i, Index C) const noexcept {
        return static_cast<Index>((position + token(i)) / C);
    }
    std::int64_t begin() const noexcept {
        return std::max<std::int64_t>(0, position + token(0) + 1 - window);
    }
    std::int64_t end() const noexcept { return position + token(count - 1) + 1; }

    // f(page, by whom it is seen), in order of positions.
    template <class F>
    void for_pages(Index C, const F& f) const noexcept {
        SeenBy by{0, 0, 0, 0};
        for (auto c = static_cast<Index>(begin() / C); c * C < end(); ++c) {
            const std::int64_t t = c * C;
            while (visible(by.any, t, C) == 0) ++by.any;
            for (by.all = std::max(by.all, by.any); by.all < count && visible(by.all, t, C) < C;)
                ++by.all;
            while (by.gone < count && hidden(by.gone, t, C) < C) ++by.gone;
            for (by.cut = std::max(by.cut, by.all); by.cut < by.gone && hidden(by.cut, t, C) == 0;)
                ++by.cut;
            f(c, by);
        }
    }
};

inline constexpr std::int64_t whole_past = std::int64_t{1} << 62;  // of a window: every token

// row [D] of head h of a token's row, times factor, to a row of padded width.
template <Real T>
void pack_query(Index D, const T* row, T factor, T* out, Index width) noexcept {
    hydralm::out(D, out) = factor * in(row);
    std::fill(out + D, out + width, T(0));
}

// The queries [count, V] of a tile times factor, padded, from q [N, G·D].
template <Real T>
void pack_queries(const FullAttentionTile& tile, MatrixView<const T> q, Index D, T factor, T* out,
                  Index V) noexcept {
    for (Index i = 0; i < tile.count; ++i)
        pack_query<T>(D, q.row(tile.token(i)) + tile.head(i) * D, factor, out + i * V, V);
}

// The softmax of every query of a tile over the pages so far, and what it gives: L = Σ 2^(s − m), o
// = Σ 2^(s − m) v with m the largest score.
template <Real T>
struct StreamingSoftmax {
    std::array<T, full_rows> largest, factor;
    std::array<double, full_rows> sum;

    static T scale(Index D) noexcept {  // of a score
        return std::numbers::log2e_v<T> / std::sqrt(static_cast<T>(D));
    }
    void clear() noexcept {
        largest.fill(std::numeric_limits<T>::lowest());
        sum.fill(0.0);
    }
    // Weights of query i over n tokens more, from its scores in their place.
    void weigh(Index i, Index n, T* w) noexcept {
        const auto at = static_cast<std::size_t>(i);
        const T top = std::max(largest[at], max(view(w, n)));
        factor[at] = std::exp2(largest[at] - top);
        largest[at] = top;
        const auto score = in(w);
        sum[at] = sum[at] * static_cast<double>(factor[at]) +
                  static_cast<double>(hydralm::out(n, w).assign_and_sum(exp2_finite(score - top)));
    }
    // o of query i with the product of those weights and their values, both [V].
    void add(Index i, Index V, const T* product, T* o) const noexcept {
        hydralm::out(V, o) = fma(in(o), factor[static_cast<std::size_t>(i)], in(product));
    }
    // o/L of query i to [D]; and its ln Σ exp(score).
    void divide(Index i, Index D, const T* o, T* out) const noexcept {
        hydralm::out(D, out) = in(o) * static_cast<T>(1.0 / sum[static_cast<std::size_t>(i)]);
    }
    T log_sum_exp(Index i) const noexcept {
        const auto at = static_cast<std::size_t>(i);
        return static_cast<T>(static_cast<double>(largest[at]) * std::numbers::ln2 +
                              std::log(sum[at]));
    }
};

}  // namespace detail

// Bytes of arena that full_attention takes, for any N and any past.
template <Real T, Index D, Index C>
constexpr Index full_attention_workspace_bytes(
    const KeyValuePage<T, D, C>& page = KeyValuePage<T, D, C>()) noexcept {
    constexpr Index rows = detail::full_rows;
    return 3 * arena_bytes<T>(rows * page.value_stride()) + arena_bytes<T>(rows * page.key_stride) +
           arena_bytes<T>(page.scratch_elements());
}

// o_nh = Σ_j softmax_j(q_nh·k_j/√D) v_j over the tokens j ≤ position + n, of which, with a window
// of W > 0, j > position + n − W.
//   q            [N, G·D], rotated: the G heads that read this group, side by side; N ≥ 0
//   position     of the first query; keys and values of all N are in the past already
//   past         finite keys and values of tokens 0 … position + N − 1 that a query sees
//   out          [N, G·D], written; aliases nothing
//   log_sum_exp  [N, G], ln Σ_j exp(q_nh·k_j/√D), written for the backward pass; or empty
// Any strides. A part of the queries on its own (another thread) has the same bits. No allocation,
// no errors. Cost: 4·D FLOP and one exponential per visible pair; a page is read once for 32
// queries, and nothing is copied of it but to decode it. Source: SPEC.md §4; Milakov and
// Gimelshein, arXiv 1805.02867 (streaming softmax).
template <Index D, Index C, Real T>
void full_attention(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                    const FullAttentionPast<T, D, C>& past, MatrixView<std::type_identity_t<T>> out,
                    Arena& arena, MatrixView<std::type_identity_t<T>> log_sum_exp = {},
                    Index window = 0) noexcept {
    using Page = KeyValuePage<T, D, C>;
    constexpr Index rows = detail::full_rows, K = Page::key_stride;
    const Index width = past.page.head_dim(), V = past.page.value_stride();
    const Arena::Scope scope(arena);
    T* const queries = arena.take<T>(rows * V);  // times log₂e/√D
    T* const outputs = arena.take<T>(rows * V);  // before division by sum
    T* const products = arena.take<T>(rows * V);
    T* const weights = arena.take<T>(rows * K);
    T* const decoded = arena.take<T>(past.page.scratch_elements());
    detail::StreamingSoftmax<T> softmax;
    const Index heads = q.cols() / width, all_rows = q.rows() * heads;

    for (Index first = 0; first < all_rows; first += rows) {
        const detail::FullAttentionTile tile{first, std::min(rows, all_rows - first), heads,
                                             position, window > 0 ? window : detail::whole_past};
        detail::pack_queries<T>(tile, q, width, softmax.scale(width), queries, V);
        std::fill_n(outputs, tile.count * V, T(0));
        softmax.clear();
        tile.for_pages(C, [&](Index c, const detail::SeenBy& by) {
            const auto page = past.read(c, decoded);
            detail::product<T>(by.gone - by.any, K, width, {queries + by.any * V, V, 1}, page.keys,
                               K, weights + by.any * K, K, false);
            // No value of a token that is not seen, not even times zero.
            const auto in_part = [&](Index begin, Index end) {
                for (Index i = begin; i < end; ++i) {
                    const Index hidden = tile.hidden(i, c * C, C), seen = tile.visible(i, c * C, C);
                    softmax.weigh(i, seen - hidden, weights + i * K + hidden);
                    detail::product<T>(1, V, seen - hidden, {weights + i * K + hidden, K, 1},
                                       page.values + hidden * V, V, products + i * V, V, false);
                }
            };
            in_part(by.any, std::min(by.all, by.gone));
            for (Index i = by.all; i < by.cut; ++i) softmax.weigh(i, C, weights + i * K);
            if (by.all < by.cut)
                detail::product<T>(by.cut - by.all, V, C, {weights + by.all * K, K, 1}, page.values,
                                   V, products + by.all * V, V, false);
            in_part(by.cut, by.gone);
            for (Index i = by.any; i < by.gone; ++i)
                softmax.add(i, V, products + i * V, outputs + i * V);
        });
        for (Index i = 0; i < tile.count; ++i) {
            const Index n = tile.token(i), h = tile.head(i);
            softmax.divide(i, width, outputs + i * V, out.row(n) + h * width);
            if (log_sum_exp.data() != nullptr) log_sum_exp(n, h) = softmax.log_sum_exp(i);
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
