// Attention to the whole past with grouped keys in plain loops: the specification of the fast form.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/paged_past.hpp"
#include "hydralm/kernels/chunk_search/reference.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// Σ_d a[d] b[d].
template <Real T>
T plain_dot(Index D, const T* a, const T* b) noexcept {
    T sum = 0;
    for (Index d = 0; d < D; ++d) sum += a[d] * b[d];
    return sum;
}

}  // namespace detail

// o_ih = Σ_j p_ihj v_jg,  p_ihj = exp(s_ihj − ℓ_ih),  ℓ_ih = ln Σ_j exp(s_ihj),
// s_ihj = q_ih·k_jg/√D,  j ≤ P + i,  g = ⌊h·Hkv/H⌋; with a window of W > 0, j > P + i − W too.
//   q               [N, H·D]
//   keys, values    [P + N, Hkv·D]: P ≥ 0 tokens of the past, then one per query
//   heads, groups   H and Hkv, which divides H
//   out             [N, H·D], written; aliases nothing
//   log_sum_exp     ℓ [N, H], written
// No allocation. Source: SPEC.md §1, §4.
template <Real T>
void full_attention_reference(MatrixView<const T> q, MatrixView<const T> keys,
                              MatrixView<const T> values, Index heads, Index groups,
                              MatrixView<T> out, MatrixView<T> log_sum_exp,
                              Index window = 0) noexcept {
    const Index past = keys.rows() - q.rows(), D = q.cols() / heads;
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    for (Index i = 0; i < q.rows(); ++i)
        for (Index h = 0; h < heads; ++h) {
            const Index g = h * groups / heads;
            const Index first = window > 0 ? std::max<Index>(0, past + i + 1 - window) : 0;
            const auto score = [&](Index j) {
                return detail::plain_dot<T>(D, q.row(i) + h * D, keys.row(j) + g * D) * scale;
            };
            T largest = -std::numeric_limits<T>::infinity(), sum = 0;
            for (Index j = first; j <= past + i; ++j) largest = std::max(largest, score(j));
            for (Index j = first; j <= past + i; ++j) sum += std::exp(score(j) - largest);
            for (Index d = 0; d < D; ++d) {
                T o = 0;
                for (Index j = first; j <= past + i; ++j)
                    o += std::exp(score(j) - largest) * values(j, g * D + d);
                out(i, h * D + d) = o / sum;
            }
            log_sum_exp(i, h) = largest + std::log(sum);
        }
}

// The same over some chunks of the past. A query of a token in chunk m = ⌊t/chunk⌋ reads the tokens
// up to its own of the chunks m − recent … m, and of those of the chunks c before them that have
// the largest bounds r_c = Σ_d max_{j∈c} q_d k_jd of their scores: sparse.chunks of them, ties to
// the earlier; with open groups of those that a tree of such bounds leads to
// (chunk_search/reference.hpp).
template <Real T>
void sparse_attention_reference(MatrixView<const T> q, MatrixView<const T> keys,
                                MatrixView<const T> values, Index heads, Index groups, Index chunk,
                                const SparsePast& sparse, Index open_groups, MatrixView<T> out) {
    const Index past = keys.rows() - q.rows(), D = q.cols() / heads;
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    for (Index i = 0; i < q.rows(); ++i)
        for (Index h = 0; h < heads; ++h) {
            const Index at = h * groups / heads * D, t = past + i, m = t / chunk;
            const auto bound = [&](Index height, Index n) {
                const Index tokens = chunk * node_chunks(height);
                T sum(0);
                for (Index d = 0; d < D; ++d) {
                    T most = -std::numeric_limits<T>::infinity();
                    for (Index j = n * tokens; j < (n + 1) * tokens; ++j)
                        most = std::max(most, q(i, h * D + d) * keys(j, at + d));
                    sum += most;
                }
                return sum;
            };
            const Index recent = sparse.first_recent(m);
            auto read = detail::best_of(detail::scored_chunks<T>(0, recent, open_groups, bound),
                                        sparse.chunks);
            for (Index c = recent; c <= m; ++c) read.emplace_back(T(0), c);
            const auto for_tokens = [&](const auto& f) {
                for (const auto& [unused, c] : read)
                    for (Index j = c * chunk; j < std::min((c + 1) * chunk, t + 1); ++j)
                        f(j, detail::plain_dot<T>(D, q.row(i) + h * D, keys.row(j) + at) * scale);
            };
            T largest = -std::numeric_limits<T>::infinity(), sum = 0;
            for_tokens([&](Index, T score) { largest = std::max(largest, score); });
            for_tokens([&](Index, T score) { sum += std::exp(score - largest); });
            std::fill_n(out.row(i) + h * D, D, T(0));
            for_tokens([&](Index j, T score) {
                for (Index d = 0; d < D; ++d)
                    out(i, h * D + d) += std::exp(score - largest) / sum * values(j, at + d);
            });
        }
}

// Gradients of full_attention_reference, given dout = ∂L/∂out:
//   Δ_ih = dout_ih·o_ih,  ds_ihj = p_ihj (dout_ih·v_jg − Δ_ih),
//   dq_ih = Σ_j ds_ihj k_jg/√D,  dk_jg = Σ_{i,h} ds_ihj q_ih/√D,  dv_jg = Σ_{i,h} p_ihj dout_ih,
// the sums over h being those of the heads that read group g. out and log_sum_exp are the
// forward's; dq [N, H·D], dkeys and dvalues [P + N, Hkv·D] are written.
template <Real T>
void full_attention_backward_reference(MatrixView<const T> q, MatrixView<const T> keys,
                                       MatrixView<const T> values, Index heads, Index groups,
                                       MatrixView<const T> out, MatrixView<const T> log_sum_exp,
                                       MatrixView<const T> dout, MatrixView<T> dq,
                                       MatrixView<T> dkeys, MatrixView<T> dvalues,
                                       Index window = 0) noexcept {
    const Index past = keys.rows() - q.rows(), D = q.cols() / heads;
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    for (Index j = 0; j < keys.rows(); ++j) {
        std::fill_n(dkeys.row(j), dkeys.cols(), T(0));
        std::fill_n(dvalues.row(j), dvalues.cols(), T(0));
    }
    for (Index i = 0; i < q.rows(); ++i)
        for (Index h = 0; h < heads; ++h) {
            const Index at = h * D, to = h * groups / heads * D;
            std::fill_n(dq.row(i) + at, D, T(0));
            const T delta = detail::plain_dot<T>(D, dout.row(i) + at, out.row(i) + at);
            const Index first = window > 0 ? std::max<Index>(0, past + i + 1 - window) : 0;
            for (Index j = first; j <= past + i; ++j) {
                const T s = detail::plain_dot<T>(D, q.row(i) + at, keys.row(j) + to) * scale,
                        p = std::exp(s - log_sum_exp(i, h)),
                        dov = detail::plain_dot<T>(D, dout.row(i) + at, values.row(j) + to),
                        ds = p * (dov - delta) * scale;
                for (Index d = 0; d < D; ++d) {
                    dq(i, at + d) += ds * keys(j, to + d);
                    dkeys(j, to + d) += ds * q(i, at + d);
                    dvalues(j, to + d) += p * dout(i, at + d);
                }
            }
        }
}

}  // namespace HYDRALM_NAMESPACE::kernels
