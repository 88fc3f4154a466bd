// Gradient of retrieval attention with the selection held fixed, through banks that keep everything
// exactly; attention inside the chunks is computed again. Matches central differences of
// retrieval_attention_reference.
//
// The gradients of keys, values, gates and summaries gather in a bank of the same layout, so those
// of tokens before this call are there for the call that fed them. Every sum has a fixed order.
#pragma once

#include "hydralm/kernels/retrieval/attend.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// a [n] softmax weights, dov [n] = do·v: a becomes p a, dov the gradient of the scores; both are
// zero behind n. Returns do·o_c.
template <Real T>
T score_gradient(Index n, Index width, T p, T* a, T* dov) noexcept {
    const T e = dot(view(a, n), in(dov));
    const auto weight = p * in(a);
    const auto gradient = in(dov);
    out(n, a, dov) = values(weight, weight * (gradient - e));
    std::fill(a + n, a + width, T(0));
    std::fill(dov + n, dov + width, T(0));
    return e;
}

}  // namespace detail

template <Real T, Index D, Index C>
constexpr Index retrieval_backward_workspace_bytes(Index N, Index top_k) noexcept {
    using Head = RetrievalHead<T, D, C>;
    constexpr Index rows = detail::retrieval_rows;
    return arena_bytes<detail::ChunkRead>(N * (top_k + 1)) + arena_bytes<T>(rows * D) +
           2 * arena_bytes<T>(rows * Head::key_stride) +
           2 * arena_bytes<T>(rows * Head::value_stride) + arena_bytes<T>(D * Head::key_stride) +
           arena_bytes<T>(C * Head::value_stride) + 2 * arena_bytes<T>(D);
}

// Gradients of λ and ℓ, added to.
template <Real T>
struct RetrievalRouteGradient {
    T lambda, local;
};

// From dout [N, D] to dq [N, D] (of q̂, written), and added to dbank: gradients of keys, values and
// summaries. q, position, bank, selection as retrieval_attend read them, out as it wrote it. dbank
// has the pages of tokens up to position + N. No allocation, no errors. Cost: 10 D C FLOP a read.
template <Index D, Index C, Real T, bool Open>
void retrieval_backward(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                        const RetrievalHead<T, D, C, Open>& bank,
                        const RetrievalSelection<T>& selection, std::type_identity_t<T> lambda,
                        MatrixView<const std::type_identity_t<T>> out,
                        MatrixView<const std::type_identity_t<T>> dout,
                        MatrixView<std::type_identity_t<T>> dq,
                        const RetrievalHead<T, D, C, Open>& dbank,
                        RetrievalRouteGradient<T>& gradient, Arena& arena) noexcept {
    using Head = RetrievalHead<T, D, C>;
    constexpr Index rows = detail::retrieval_rows, K = Head::key_stride, V = Head::value_stride,
                    G = Head::group;
    const Arena::Scope scope(arena);
    const Index N = q.rows(), top_k = selection.top_k, chunk_tokens = bank.chunk_tokens();
    auto* const reads = arena.take<detail::ChunkRead>(N * (top_k + 1));
    T* const queries = arena.take<T>(rows * D);
    T* const weights = arena.take<T>(rows * K);
    T* const dscores = arena.take<T>(rows * K);
    T* const dsums = arena.take<T>(rows * V);
    T* const dqueries = arena.take<T>(rows * V);
    T* const values_t = arena.take<T>(D * K);
    T* const keys_t = arena.take<T>(C * V);
    T* const summary = arena.take<T>(D);
    T* const dsummary = arena.take<T>(D);
    std::fill_n(dsums, rows * V, T(0));
    for (Index n = 0; n < N; ++n) std::fill_n(dq.row(n), D, T(0));
    const Index count = detail::list_reads(N, position, chunk_tokens, selection, reads);
    Index turned = -1;  // the chunk that values_t and keys_t hold
    const auto run = [&](const detail::ChunkRead* read, Index n, detail::ReadKind kind) {
        const Index c = read->chunk;
        const bool own = kind == detail::ReadKind::own;
        if (turned != c || own) {
            detail::transpose_padded<T>(bank.values(c), C, D, V, values_t, K);
            detail::transpose_padded<T>(bank.keys(c), D, C, K, keys_t, V);
            turned = own ? -1 : c;
        }
        for (Index i = 0; i < n; ++i) {
            std::copy_n(q.row(read[i].query), D, queries + i * D);
            std::copy_n(dout.row(read[i].query), D, dsums + i * V);
        }
        const auto visible = [&](Index i) {
            return own ? static_cast<Index>((position + read[i].query) % chunk_tokens) + 1
                       : chunk_tokens;
        };
        detail::product<T>(n, K, D, {queries, D, 1}, bank.keys(c), K, weights, K, false);
        detail::product<T>(n, K, D, {dsums, V, 1}, values_t, K, dscores, K, false);
        const T* const s = own ? nullptr : bank.summaries(c / G) + c % G;
        if (!own) {
            for (Index d = 0; d < D; ++d) summary[d] = s[d * G];
            std::fill_n(dsummary, D, T(0));
        }
        for (Index i = 0; i < n; ++i) {
            const Index at = read[i].query;
            const T p = selection.weights[at * (top_k + 1) + read[i].slot];
            detail::scaled_softmax_row<T>(visible(i), weights + i * K, 1.0, weights + i * K);
            const T e =
                detail::score_gradient<T>(visible(i), K, p, weights + i * K, dscores + i * K);
            const T dlogit = p * (e - dot(view<D>(dout.row(at)), in(out.row(at))));
            if (own) {
                gradient.local += dlogit;
            } else {
                gradient.lambda += dlogit * selection.scores[at * top_k + read[i].slot];
                const T dr = dlogit * lambda;
                hydralm::out<D>(dsummary) = fma(dr, in(queries + i * D), in(dsummary));
                hydralm::out<D>(dq.row(at)) = fma(dr, in(summary), in(dq.row(at)));
            }
        }
        detail::product<T>(n, V, visible(n - 1), {dscores, K, 1}, keys_t, V, dqueries, V, false);
        detail::product<T>(C, V, n, {weights, 1, K}, dsums, V, dbank.values(c), V, true);
        detail::product<T>(D, K, n, {queries, 1, D}, dscores, K, dbank.keys(c), K, true);
        for (Index i = 0; i < n; ++i) {
            T* const row = dq.row(read[i].query);
            hydralm::out<D>(row) += in(dqueries + i * V);
        }
        if (!own) {
            T* const ds = dbank.summaries(c / G) + c % G;
            for (Index d = 0; d < D; ++d) ds[d * G] += dsummary[d];
        }
    };
    detail::for_runs(bank.past().bounds, position, chunk_tokens, reads, count, top_k, rows, run);
}

// The rest of the way for the N tokens from position on: from dbank, through the summaries of the
// chunks they complete and through the gates γ = σ(8 w·k̂ + b − 2), to dk and dv [N, D] (of k̂ and v,
// written) and the gradients dweight [D] of w and dbias of b (added to). What dbank held of these
// tokens and summaries is zero afterwards; gradients of earlier tokens in the same chunk are added.
template <Index D, Index C, Real T, bool Open>
void retrieval_bank_backward(Index N, std::int64_t position,
                             const RetrievalHead<T, D, C, Open>& bank,
                             const RetrievalHead<T, D, C, Open>& dbank, const T* weight,
                             MatrixView<std::type_identity_t<T>> dk,
                             MatrixView<std::type_identity_t<T>> dv, T* dweight,
                             T& dbias) noexcept {
    using Head = RetrievalHead<T, D, C>;
    constexpr Index K = Head::key_stride, V = Head::value_stride, G = Head::group;
    const std::int64_t end = position + N;
    const Index chunk_tokens = bank.chunk_tokens();
    for (std::int64_t t = position; t < end;) {
        const auto c = static_cast<Index>(t / chunk_tokens),
                   first = static_cast<Index>(t % chunk_tokens);
        const Index count =
            static_cast<Index>(std::min<std::int64_t>(chunk_tokens - first, end - t));
        const T* const keys = bank.keys(c);
        const T* const gates = bank.gates(c);
        T* const dkeys = dbank.keys(c);
        T* const dgates = dbank.gates(c);
        if (first + count == chunk_tokens) {
            T* const ds = dbank.summaries(c / G) + c % G;
            for (Index d = 0; d < D; ++d) {
                const T g = std::exchange(ds[d * G], T(0));
                out<C>(dkeys + d * K) = fma(g, in(gates), in(dkeys + d * K));
                out<C>(dgates) = fma(g, in(keys + d * K), in(dgates));
            }
        }
        T* const logit = dgates + first;  // γ's gradient becomes that of 8 w·k̂ + b − 2
        const auto gate = in(gates + first);
        dbias += out(count, logit).assign_and_sum(in(logit)*gate * (1 - gate));
        for (Index d = 0; d < D; ++d) {
            dweight[d] += T(8) * dot(view(logit, count), in(keys + d * K + first));
            T* const row = dkeys + d * K + first;
            for (Index j = 0; j < count; ++j)
                dk(static_cast<Index>(t - position) + j, d) =
                    std::exchange(row[j], T(0)) + T(8) * weight[d] * logit[j];
        }
        for (Index j = 0; j < count; ++j) {
            T* const row = dbank.values(c) + (first + j) * V;
            std::copy_n(row, D, dv.row(static_cast<Index>(t - position) + j));
            std::fill_n(row, D, T(0));
            logit[j] = T(0);
        }
        t += count;
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
