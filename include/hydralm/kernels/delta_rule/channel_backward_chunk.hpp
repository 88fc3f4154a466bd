// One chunk of the backward pass where every key channel has a decay of its own. What meets S is
// that of backward_chunk.hpp, with E and F within the packed rows.
//
// h_ij = D_ij ⊙ k_j, which M_ij = β_i k_i·h_ij and A_ij = q_i·h_ij are made of, is carried down the
// rows, h_ij = α_i ⊙ h_{i−1,j}, and its gradient up them: products of factors in [0, 1], so
// nothing overflows, and where α = 0 nothing goes further. E and F⊙K are carried alike.
#pragma once

#include "hydralm/kernels/delta_rule/backward_chunk.hpp"
#include "hydralm/kernels/delta_rule/channel_block.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// e and f are 1; decay is not used.
template <Real T, Index D, Index V, Index C>
struct GatedDeltaChannelBackwardScratch : GatedDeltaBackwardScratch<T, D, V, C> {
    using Base = GatedDeltaBackwardScratch<T, D, V, C>;
    static constexpr Index pairs = C * (C + 1) / 2;  // j ≤ i

    T *alpha, *e_rows, *eq, *ek, *fk, *dg;  // [C, K]: α, E, E⊙Q, E⊙K, F⊙K, gradient of ln α
    T* carried;                             // [pairs, lanes]: h_ij of one batch of channels

    GatedDeltaChannelBackwardScratch(Arena& arena, Index keys, Index values) noexcept
        : Base(arena, keys, values) {
        for (T** rows : {&alpha, &e_rows, &eq, &ek, &fk, &dg}) *rows = arena.take<T>(C * Base::K);
        carried = arena.take<T>(pairs * simd::lanes<T>);
    }
    static constexpr Index bytes(Index keys, Index values) noexcept {
        return Base::bytes(keys, values) +
               6 * arena_bytes<T>(C * GatedDeltaPlan<T, D, C>::padded_of(keys)) +
               arena_bytes<T>(pairs * simd::lanes<T>);
    }
};

// What the gradients need of the forward pass: N, X, kd, A, −M, E. w.s holds S.
template <Real T, Index D, Index V, Index C>
void gated_delta_recompute(const GatedDeltaInput<T, D, V, ChannelDecay<T, D>>& input, Index c,
                           const GatedDeltaChannelBackwardScratch<T, D, V, C>& w) noexcept {
    const Index K = w.K;
    gated_delta_pack<T, D, C>(input.log_decay, c, w.alpha);
    exponentiate<T>(w.alpha, C * K);
    gated_delta_pack<T, D, C>(input.k, c, w.k);
    gated_delta_pack<T, D, C>(input.q, c, w.q);
    gated_delta_pack<T, V, C>(input.v, c, w.n);
    std::copy_n(w.k, C * K, w.fk);
    gated_delta_carry<T, C>(K, w.alpha, w.q, w.k, w.fk, w.kd, w.a);
    for (Index i = 0; i < C; ++i) {
        w.beta[i] = i < c ? input.beta[i] : T(0);
        w.e[i] = w.f[i] = T(1);
        std::fill(w.kd + i * C + i, w.kd + (i + 1) * C, T(0));
        std::fill(w.a + i * C + i + 1, w.a + (i + 1) * C, T(0));
        out(C, w.m + i * C) = -w.beta[i] * in(w.kd + i * C);
        T* const e = w.e_rows + i * K;
        if (i == 0) std::copy_n(w.alpha, K, e);
        else out(K, e) = in(w.alpha + i * K) * in(e - K);
        out(K, w.eq + i * K, w.ek + i * K) = values(in(e)*in(w.q + i * K), in(e)*in(w.k + i * K));
    }
    gated_delta_solve<T, C>(input.k.cols(), w.ek, w);
}

// Gradients of one batch of channels, those from d on:
//   dq, dk   in, those of E⊙Q and, negative, of E⊙K; out, of q and k
//   k2       that of F⊙K, which is h behind the last row
//   j, b     dA and β ⊙ dM
//   dg       written
template <Real T, Index C, class Scratch>
[[gnu::flatten]] void gated_delta_carry_back(Index width, Index d, const Scratch& w) noexcept {
    using simd::Batch;
    constexpr Index lanes = simd::lanes<T>;
    const Index K = w.K;
    const auto carried = [&](Index i, Index j) {
        return w.carried + (i * (i + 1) / 2 + j) * lanes;
    };
    LocalArray<Batch<T>, C> dh;  // of every key, in the row that is reached
    for (Index i = 0; i < C; ++i) {
        const Batch<T> alpha = simd::load<T>(w.alpha + i * K + d);
        for (Index j = 0; j < i; ++j)
            simd::store<T>(carried(i, j), alpha * simd::load<T>(carried(i - 1, j)));
        simd::store<T>(carried(i, i), simd::load<T>(w.k + i * K + d));
        dh[i] = simd::load<T>(w.k2 + i * K + d);
    }
    Batch<T> de(T(0));  // of E: at first e^Γ, which S meets
    for (Index v = 0; v < width; ++v)
        de = simd::fma(simd::load<T>(w.st + v * K + d), simd::load<T>(w.dst + v * K + d), de);
    for (Index i = C - 1; i >= 0; --i) {
        const Index at = i * K + d;
        const Batch<T> alpha = simd::load<T>(w.alpha + at), e = simd::load<T>(w.e_rows + at),
                       q = simd::load<T>(w.q + at), k = simd::load<T>(w.k + at),
                       deq = simd::load<T>(w.dq + at), dek = -simd::load<T>(w.dk + at);
        de = simd::fma(q, deq, simd::fma(k, dek, de));
        Batch<T> dq = e * deq, dk = e * dek, dg = e * de;
        de = alpha * de;
        for (Index j = 0; j < i; ++j) {
            const Batch<T> da(w.j[i * C + j]), db(w.b[i * C + j]), h = simd::load<T>(carried(i, j));
            const Batch<T> dhij = simd::fma(da, q, simd::fma(db, k, dh[j]));
            dq = simd::fma(da, h, dq);
            dk = simd::fma(db, h, dk);
            dg = simd::fma(dhij, h, dg);
            dh[j] = alpha * dhij;
        }
        const Batch<T> da(w.j[i * C + i]);  // h_ii = k_i, whatever α_i is
        simd::store<T>(w.dq + at, simd::fma(da, k, dq));
        simd::store<T>(w.dk + at, dk + simd::fma(da, q, dh[i]));
        simd::store<T>(w.dg + at, dg);
    }
}

// One chunk: gradients of its tokens, and w.ds from that of the state behind it to that of the
// state before it.
template <Real T, Index D, Index V, Index C>
void gated_delta_backward_chunk(const GatedDeltaInput<T, D, V, ChannelDecay<T, D>>& input, Index c,
                                MatrixView<const T, V> dout,
                                const GatedDeltaGradients<T, D, V, ChannelDecay<T, D>>& gradients,
                                Index first,
                                const GatedDeltaChannelBackwardScratch<T, D, V, C>& w) noexcept {
    const Index keys = input.k.cols(), width = input.v.cols(), K = w.K, W = w.W;
    gated_delta_recompute<T, D, V, C>(input, c, w);
    gated_delta_pack<T, V, C>(dout, c, w.dout);
    gated_delta_solve_back<T, V, C>(keys, width, w.fk, w);
    for (Index i = 0; i < C; ++i) {
        T dbeta = dot(view(w.y + i * W, W), in(w.n + i * W));
        for (Index j = 0; j < i; ++j) {
            const Index ij = i * C + j;
            dbeta -= w.b[ij] * w.kd[ij];
            w.b[ij] *= -w.beta[i];
        }
        if (i < c) gradients.beta[first + i] = dbeta;
    }
    for (Index d = 0; d < K; d += simd::lanes<T>) gated_delta_carry_back<T, C>(width, d, w);
    unpack_rows<T, D>(w.dg, K, gradients.log_decay.middle_rows(first, c));
    for (Index i = 0; i < keys; ++i) scale_row(W, w.e_rows[(C - 1) * K + i], w.ds + i * W);
    scale_row(C * K, T(-1), w.ek);
    gated_delta_leave<T, D, V, C>(keys, w.eq, w.ek, gradients, first, c, w);
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
