// Gradient of attention to the past, through pages that keep everything exactly; probabilities are
// computed again, page by page. Matches full_attention_backward_reference within 2·10⁻⁵ of the
// largest gradient in float, 10⁻¹² in double.
//
// The gradients of keys and values gather in pages of the same layout, so those of tokens before
// this call are there for the call that fed them. Every sum has a fixed order.
#pragma once

#include <utility>

#include "hydralm/kernels/full_attention/forward.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Bytes of arena that full_attention_backward takes, for any N and any past.
template <Real T, Index D, Index C>
constexpr Index full_attention_backward_workspace_bytes(
    const KeyValuePage<T, D, C>& page = KeyValuePage<T, D, C>()) noexcept {
    constexpr Index rows = detail::full_rows;
    return 4 * arena_bytes<T>(rows * page.value_stride()) +
           2 * arena_bytes<T>(rows * page.key_stride) +
           arena_bytes<T>(page.head_dim() * page.key_stride) +
           arena_bytes<T>(C * page.value_stride());
}

// From dout [N, G·D] to dq [N, G·D] (of the rotated queries, written), and added to dpast:
// gradients of keys and values. q, position, past and window as full_attention read them, out and
// log_sum_exp as it wrote them. dpast has the pages of tokens up to position + N. No allocation, no
// errors. Cost: 10·D FLOP and one exponential per visible pair, and 2·C·D moves a page for 32
// queries.
template <Index D, Index C, Real T>
void full_attention_backward(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                             const FullAttentionPast<T, D, C>& past,
                             MatrixView<const std::type_identity_t<T>> out,
                             MatrixView<const std::type_identity_t<T>> log_sum_exp,
                             MatrixView<const std::type_identity_t<T>> dout,
                             MatrixView<std::type_identity_t<T>> dq,
                             const FullAttentionPast<T, D, C>& dpast, Arena& arena,
                             Index window = 0) noexcept {
    using Page = KeyValuePage<T, D, C>;
    constexpr Index rows = detail::full_rows, K = Page::key_stride;
    const Page& page = past.page;
    const Index width = page.head_dim(), V = page.value_stride();
    const Arena::Scope scope(arena);
    T* const queries = arena.take<T>(rows * V);  // times 1/√D
    T* const douts = arena.take<T>(rows * V);
    T* const dqueries = arena.take<T>(rows * V);
    T* const products = arena.take<T>(rows * V);
    T* const weights = arena.take<T>(rows * K);
    T* const dscores = arena.take<T>(rows * K);
    T* const values_t = arena.take<T>(width * K);
    T* const keys_t = arena.take<T>(C * V);
    std::array<T, rows> delta;
    const T scale = T(1) / std::sqrt(static_cast<T>(width));
    const Index heads = q.cols() / width, all_rows = q.rows() * heads;

    for (Index first = 0; first < all_rows; first += rows) {
        const detail::FullAttentionTile tile{first, std::min(rows, all_rows - first), heads,
                                             position, window > 0 ? window : detail::whole_past};
        for (Index i = 0; i < tile.count; ++i) {
            const Index n = tile.token(i), at = tile.head(i) * width;
            detail::pack_query<T>(width, q.row(n) + at, scale, queries + i * V, V);
            detail::pack_query<T>(width, dout.row(n) + at, T(1), douts + i * V, V);
            delta[static_cast<std::size_t>(i)] =
                dot(view(dout.row(n) + at, width), in(out.row(n) + at));
        }
        std::fill_n(dqueries, tile.count * V, T(0));
        tile.for_pages(C, [&](Index c, const detail::SeenBy& by) {
            const Index any = by.any, gone = by.gone;
            T* const keys = page.keys(past.part(c));
            T* const dkeys = page.keys(dpast.part(c));
            T* const dvalues = page.values(dpast.part(c));
            const Index count = gone - any, most = tile.visible(gone - 1, c * C, C);
            detail::transpose_padded<T>(page.values(past.part(c)), C, width, V, values_t, K);
            detail::transpose_padded<T>(keys, width, C, K, keys_t, V);
            T* const w = weights + any * K;
            T* const ds = dscores + any * K;
            detail::product<T>(count, K, width, {queries + any * V, V, 1}, keys, K, w, K, false);
            detail::product<T>(count, K, width, {douts + any * V, V, 1}, values_t, K, ds, K, false);
            for (Index i = any; i < gone; ++i) {
                const Index hidden = tile.hidden(i, c * C, C), seen = tile.visible(i, c * C, C),
                            visible = seen - hidden;
                const T l = log_sum_exp(tile.token(i), tile.head(i));
                std::fill_n(weights + i * K, hidden, T(0));
                std::fill_n(dscores + i * K, hidden, T(0));
                T* const p = weights + i * K + hidden;
                T* const s = dscores + i * K + hidden;
                const auto score = in(p), dscore = in(s);
                const auto weight = exp(score - l);
                hydralm::out(visible, p, s) =
                    values(weight, weight * (dscore - delta[static_cast<std::size_t>(i)]));
                std::fill(p + visible, weights + (i + 1) * K, T(0));
                std::fill(s + visible, dscores + (i + 1) * K, T(0));
            }
            detail::product<T>(count, V, most, {ds, K, 1}, keys_t, V, products, V, false);
            detail::product<T>(most, V, count, {w, 1, K}, douts + any * V, V, dvalues, V, true);
            detail::product<T>(width, K, count, {queries + any * V, 1, V}, ds, K, dkeys, K, true);
            hydralm::out(count * V, dqueries + any * V) += in(products);
        });
        for (Index i = 0; i < tile.count; ++i)
            detail::pack_query<T>(width, dqueries + i * V, scale,
                                  dq.row(tile.token(i)) + tile.head(i) * width, width);
    }
}

// What gathered in dpast of the N tokens from position on, to dk and dv [N, D] (of the rotated key
// and the value, written); it is zero there afterwards.
template <Index D, Index C, Real T>
void take_key_value_gradients(Index N, std::int64_t position,
                              const FullAttentionPast<T, D, C>& dpast,
                              MatrixView<std::type_identity_t<T>> dk,
                              MatrixView<std::type_identity_t<T>> dv) noexcept {
    const KeyValuePage<T, D, C>& page = dpast.page;
    for (Index n = 0; n < N; ++n) {
        const auto c = static_cast<Index>((position + n) / C),
                   j = static_cast<Index>((position + n) % C);
        T* const keys = page.keys(dpast.part(c)) + j;
        T* const values = page.values(dpast.part(c)) + j * page.value_stride();
        for (Index d = 0; d < page.head_dim(); ++d) {
            dk(n, d) = std::exchange(keys[d * page.key_stride], T(0));
            dv(n, d) = std::exchange(values[d], T(0));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
