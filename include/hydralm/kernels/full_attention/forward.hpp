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

// Queries first, first + 1, … of N tokens with `heads` heads each, head by head: what they see.
struct FullAttentionTile {
    Index first, count, heads;
    std::int64_t position;  // of the first token of all

    Index token(Index i) const noexcept { return (first + i) / heads; }
    Index head(Index i) const noexcept { return (first + i) % heads; }
    // How many tokens of the page that begins at token t query i sees, at most C.
    Index visible(Index i, std::int64_t t, Index C) const noexcept {
        return static_cast<Index>(std::clamp<std::int64_t>(position + token(i) + 1 - t, 0, C));
    }
    std::int64_t end() const noexcept { return position + token(count - 1) + 1; }

    // f(page, first query that sees any of it, first that sees all C of it), in order of positions.
    template <class F>
    void for_pages(Index C, const F& f) const noexcept {
        Index any = 0, all = 0;
        for (Index c = 0; c * C < end(); ++c) {
            while (visible(any, c * C, C) == 0) ++any;
            for (all = std::max(all, any); all < count && visible(all, c * C, C) < C;) ++all;
            f(c, any, all);
        }
    }
};

// row [D] of head h of a token's row, times factor, to a row of padded width.
template <Real T>
void pack_query(Index D, const T* row, T factor, T* out, Index width) noexcept {
    hydralm::out(D, out) = factor * in(row);
    std::fill(out + D, out + width, T(0));
}

}  // namespace detail

// Bytes of arena that full_attention takes, for any N and any past.
template <Real T, Index D, Index C>
constexpr Index full_attention_workspace_bytes() noexcept {
    using Page = KeyValuePage<T, D, C>;
    constexpr Index rows = detail::full_rows;
    return 3 * arena_bytes<T>(rows * Page::value_stride) + arena_bytes<T>(rows * Page::key_stride) +
           arena_bytes<T>(Page::scratch_elements);
}

// o_nh = Σ_j softmax_j(q_nh·k_j/√D) v_j over the tokens j ≤ position + n.
//   q            [N, G·D], rotated: the G heads that read this group, side by side; N ≥ 0
//   position     of the first query; keys and values of all N are in the past already
//   past         finite keys and values of tokens 0 … position + N − 1
//   out          [N, G·D], written; aliases nothing
//   log_sum_exp  [N, G], ln Σ_j exp(q_nh·k_j/√D), written for the backward pass; or empty
// Any strides. A part of the queries on its own (another thread) has the same bits. No allocation,
// no errors. Cost: 4·D FLOP and one exponential per visible pair; a page is read once for 32
// queries, and nothing is copied of it but to decode it. Source: SPEC.md §4; Milakov and
// Gimelshein, arXiv 1805.02867 (streaming softmax).
template <Index D, Index C, Real T>
void full_attention(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                    const FullAttentionPast<T, D, C>& past, MatrixView<std::type_identity_t<T>> out,
                    Arena& arena, MatrixView<std::type_identity_t<T>> log_sum_exp = {}) noexcept {
    using Page = KeyValuePage<T, D, C>;
    constexpr Index rows = detail::full_rows, K = Page::key_stride, V = Page::value_stride;
    const Arena::Scope scope(arena);
    T* const queries = arena.take<T>(rows * V);  // times log₂e/√D
    T* const outputs = arena.take<T>(rows * V);  // before division by sum
    T* const products = arena.take<T>(rows * V);
    T* const weights = arena.take<T>(rows * K);
    T* const decoded = arena.take<T>(Page::scratch_elements);
    std::array<T, rows> largest, factor;
    std::array<double, rows> sum;  // Σ 2^(score − largest)
    const T scale = std::numbers::log2e_v<T> / std::sqrt(static_cast<T>(D));
    const Index heads = q.cols() / D, all_rows = q.rows() * heads;

    // Weights of query i over the visible tokens of a page, from its scores in their place.
    const auto weigh = [&](Index i, Index visible) {
        const auto at = static_cast<std::size_t>(i);
        T* const w = weights + i * K;
        const T top = std::max(largest[at], max(view(w, visible)));
        factor[at] = std::exp2(largest[at] - top);
        largest[at] = top;
        const auto score = in(w);
        sum[at] =
            sum[at] * static_cast<double>(factor[at]) +
            static_cast<double>(hydralm::out(visible, w).assign_and_sum(exp2_finite(score - top)));
    };
    for (Index first = 0; first < all_rows; first += rows) {
        const detail::FullAttentionTile tile{first, std::min(rows, all_rows - first), heads,
                                             position};
        for (Index i = 0; i < tile.count; ++i)
            detail::pack_query<T>(D, q.row(tile.token(i)) + tile.head(i) * D, scale,
                                  queries + i * V, V);
        std::fill_n(outputs, tile.count * V, T(0));
        largest.fill(std::numeric_limits<T>::lowest());
        sum.fill(0.0);
        tile.for_pages(C, [&](Index c, Index any, Index all) {
            const auto page = past.read(c, decoded);
            detail::product<T>(tile.count - any, K, D, {queries + any * V, V, 1}, page.keys, K,
                               weights + any * K, K, false);
            for (Index i = any; i < all; ++i) {  // no later token's value, not even times zero
                const Index visible = tile.visible(i, c * C, C);
                weigh(i, visible);
                detail::product<T>(1, V, visible, {weights + i * K, K, 1}, page.values, V,
                                   products + i * V, V, false);
            }
            for (Index i = all; i < tile.count; ++i) weigh(i, C);
            if (all < tile.count)
                detail::product<T>(tile.count - all, V, C, {weights + all * K, K, 1}, page.values,
                                   V, products + all * V, V, false);
            for (Index i = any; i < tile.count; ++i)
                hydralm::out<V>(outputs + i * V) = fma(
                    in(outputs + i * V), factor[static_cast<std::size_t>(i)], in(products + i * V));
        });
        for (Index i = 0; i < tile.count; ++i) {
            const auto at = static_cast<std::size_t>(i);
            hydralm::out<D>(out.row(tile.token(i)) + tile.head(i) * D) =
                in(outputs + i * V) * static_cast<T>(1.0 / sum[at]);
            if (log_sum_exp.data() != nullptr)
                log_sum_exp(tile.token(i), tile.head(i)) = static_cast<T>(
                    static_cast<double>(largest[at]) * std::numbers::ln2 + std::log(sum[at]));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
