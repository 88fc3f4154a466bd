// One chunk of the backward pass of the gated delta rule: what of the forward pass it computes
// again, and the gradients of its tokens. Symbols are those of README.md.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/delta_rule/backward_reference.hpp"
#include "hydralm/kernels/delta_rule/block.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

inline constexpr Index substitution_rows = 8;  // of one tile of a substitution; divides every chunk

// Scratch of one chunk of keys of D elements and values of V; K and W are those padded to whole
// batches.
template <Real T, Index D, Index V, Index C>
struct GatedDeltaBackwardScratch {
    static_assert(C % substitution_rows == 0,
                  "hydralm: chunk: must be a power of two, 8 or more; 16 to 64 are usual");

    Index K, W;
    T *s, *ds;                      // [K, W]: S, dS'
    T *st, *dst;                    // [W, K]: Sᵀ, dS'ᵀ
    T *k, *q, *dq, *dk, *k2;        // [C, K]
    T *dout, *n, *x, *y, *dv;       // [C, W]
    T *decay, *kd, *a, *m, *j, *b;  // [C, C]; kd = (k_i·k_j) D_ij, m = −M
    T *e, *f, *beta;                // [C]

    GatedDeltaBackwardScratch(Arena& arena, Index keys, Index values) noexcept
        : K(padded_keys(keys)), W(padded_values(values)) {
        for (T** square : {&s, &ds, &st, &dst}) *square = arena.take<T>(K * W);
        for (T** rows : {&k, &q, &dq, &dk, &k2}) *rows = arena.take<T>(C * K);
        for (T** rows : {&dout, &n, &x, &y, &dv}) *rows = arena.take<T>(C * W);
        for (T** gate : {&decay, &kd, &a, &m, &j, &b})
            *gate = arena.take<T>(round_up(C * C, simd::lanes<T>));
        for (T** token : {&e, &f, &beta}) *token = arena.take<T>(round_up(C, simd::lanes<T>));
    }
    static constexpr Index bytes(Index keys, Index values) noexcept {
        const Index K = padded_keys(keys), W = padded_values(values);
        return 4 * arena_bytes<T>(K * W) + 5 * arena_bytes<T>(C * K) + 5 * arena_bytes<T>(C * W) +
               6 * arena_bytes<T>(round_up(C * C, simd::lanes<T>)) +
               3 * arena_bytes<T>(round_up(C, simd::lanes<T>));
    }

private:
    static constexpr Index padded_keys(Index n) noexcept {
        return GatedDeltaPlan<T, D, C>::padded_of(n);
    }
    static constexpr Index padded_values(Index n) noexcept {
        return GatedDeltaPlan<T, V, C>::padded_of(n);
    }
};

// y[n] ← scale · y.
template <Real T>
void scale_row(Index n, T scale, T* y) noexcept {
    out(n, y) = scale * in(y);
}

// The first rows.rows() rows of packed [·, P] into a view.
template <Real T, Index D>
void unpack_rows(const T* packed, Index P, MatrixView<T, D> rows) noexcept {
    for (Index i = 0; i < rows.rows(); ++i) std::copy_n(packed + i * P, rows.cols(), rows.row(i));
}

// N = V − E ⊙ (k S) and X = L⁻¹ β N, of V in w.n; k [C, K] are the keys as S meets them.
template <Real T, Index C, class Scratch>
void gated_delta_solve(Index keys, const T* k, const Scratch& w) noexcept {
    const Index K = w.K, W = w.W;
    product<T>(C, W, keys, {k, K, 1}, w.s, W, w.x, W, false);  // K S
    for (Index i = 0; i < C; ++i) {
        T* const n = w.n + i * W;
        T* const x = w.x + i * W;
        const auto value = in(n);
        const auto target = value - w.e[i] * in(x);
        out(W, n, x) = values(target, w.beta[i] * target);
    }
    for (Index i0 = 0; i0 < C; i0 += substitution_rows) {  // earlier tiles at once, then row by row
        T* const tile = w.x + i0 * W;
        product<T>(substitution_rows, W, i0, {w.m + i0 * C, C, 1}, w.x, W, tile, W, true);
        for (Index r = 1; r < substitution_rows; ++r)
            product<T>(1, W, r, {w.m + (i0 + r) * C + i0, C, 1}, tile, W, tile + r * W, W, true);
    }
}

// Back from dO, in w.dout, and dS': y, dv, dq = dO Sᵀ, dk = dV Sᵀ, k2 = X dS'ᵀ and, for j ≤ i,
// j = dA and b = −dM. F ⊙ written [C, K] are the keys as they enter S'.
template <Real T, Index V, Index C, class Scratch>
void gated_delta_solve_back(Index keys, Index width, const T* written, const Scratch& w) noexcept {
    const Index K = w.K, W = w.W;
    transpose<T>(K, W, w.s, w.st);
    transpose<T>(K, W, w.ds, w.dst);

    // Y = L⁻ᵀ dX, dX = Aᵀ dO + F ⊙ (K dS')
    product<T>(C, W, keys, {written, K, 1}, w.ds, W, w.y, W, false);
    for (Index i = 0; i < C; ++i) scale_row(W, w.f[i], w.y + i * W);
    product<T>(C, W, C, {w.a, 1, C}, w.dout, W, w.y, W, true);
    for (Index end = C; end > 0; end -= substitution_rows) {
        const Index j0 = end - substitution_rows;
        product<T>(substitution_rows, W, C - end, {w.m + end * C + j0, 1, C}, w.y + end * W, W,
                   w.y + j0 * W, W, true);
        for (Index j = end - 2; j >= j0; --j)
            product<T>(1, W, end - 1 - j, {w.m + (j + 1) * C + j, 1, C}, w.y + (j + 1) * W, W,
                       w.y + j * W, W, true);
    }
    for (Index i = 0; i < C; ++i) out(W, w.dv + i * W) = w.beta[i] * in(w.y + i * W);

    product<T>(C, K, width, {w.dout, W, 1}, w.st, K, w.dq, K, false);
    product<T>(C, K, width, {w.dv, W, 1}, w.st, K, w.dk, K, false);
    product<T>(C, K, width, {w.x, W, 1}, w.dst, K, w.k2, K, false);
    gated_delta_gram<T, V, C>(w.dout, w.x, w.j, width);
    gated_delta_gram<T, V, C>(w.y, w.x, w.b, width);
}

// Hands out dq, dk and dv of the chunk's c tokens. ds, e^Γ dS' before, gains qᵀ dO + kᵀ dV, where
// q and k [C, K] are E ⊙ Q and −E ⊙ K.
template <Real T, Index D, Index V, Index C, class Gradients, class Scratch>
void gated_delta_leave(Index keys, const T* q, const T* k, const Gradients& gradients, Index first,
                       Index c, const Scratch& w) noexcept {
    const Index K = w.K, W = w.W;
    unpack_rows<T, D>(w.dq, K, gradients.q.middle_rows(first, c));
    unpack_rows<T, D>(w.dk, K, gradients.k.middle_rows(first, c));
    unpack_rows<T, V>(w.dv, W, gradients.v.middle_rows(first, c));
    product<T>(keys, W, C, {q, 1, K}, w.dout, W, w.ds, W, true);
    product<T>(keys, W, C, {k, 1, K}, w.dv, W, w.ds, W, true);
}

// What the gradients need of the forward pass: N, X, kd, A, −M. w.s holds S.
template <Real T, Index D, Index V, Index C>
void gated_delta_recompute(const GatedDeltaInput<T, D, V>& input, Index c,
                           const GatedDeltaBackwardScratch<T, D, V, C>& w) noexcept {
    const Index keys = input.k.cols();
    gated_delta_gates<T, D, C>(input, c, w);
    gated_delta_pack<T, D, C>(input.k, c, w.k);
    gated_delta_pack<T, D, C>(input.q, c, w.q);
    gated_delta_pack<T, V, C>(input.v, c, w.n);
    gated_delta_gram<T, D, C>(w.k, w.k, w.kd, keys);
    gated_delta_gram<T, D, C>(w.q, w.k, w.a, keys);
    for (Index i = 0; i < C; ++i) {
        for (Index j = 0; j < C; ++j) {
            const Index ij = i * C + j;
            if (j > i) w.decay[ij] = 0;
            w.kd[ij] = j < i ? w.kd[ij] * w.decay[ij] : T(0);
            w.a[ij] = j <= i ? w.a[ij] * w.decay[ij] : T(0);
            w.m[ij] = -w.beta[i] * w.kd[ij];
        }
    }
    gated_delta_solve<T, C>(keys, w.k, w);
}

// One chunk: gradients of its tokens, and w.ds from that of the state behind it to that of the
// state before it.
template <Real T, Index D, Index V, Index C>
void gated_delta_backward_chunk(const GatedDeltaInput<T, D, V>& input, Index c,
                                MatrixView<const T, V> dout,
                                const GatedDeltaGradients<T, D, V>& gradients, Index first,
                                const GatedDeltaBackwardScratch<T, D, V, C>& w) noexcept {
    const Index keys = input.k.cols(), width = input.v.cols(), K = w.K, W = w.W;
    gated_delta_recompute<T, D, V, C>(input, c, w);
    gated_delta_pack<T, V, C>(dout, c, w.dout);
    gated_delta_solve_back<T, V, C>(keys, width, w.k, w);

    // q1 = E ⊙ (dO Sᵀ), k1 = −E ⊙ (dV Sᵀ), k2 = F ⊙ (X dS'ᵀ), and
    // dg_l = e^Γ ⟨S, dS'⟩ + Σ_{i≥l} (q_i·q1_i + k_i·k1_i) + Σ_{i<l} k_i·k2_i + Σ_{i≥l} Σ_{j<l}
    // Z_ij, without a difference: where decay is strong, dg is far smaller than terms that would
    // cancel.
    LocalArray<double, C> dg{};
    LocalArray<double, C> through_state{};
    double before = static_cast<double>(w.e[C - 1] * dot(view(w.s, keys * W), in(w.ds)));
    for (Index i = 0; i < C; ++i) {
        const T* const ki = w.k + i * K;
        scale_row(K, w.e[i], w.dq + i * K);
        scale_row(K, -w.e[i], w.dk + i * K);
        scale_row(K, w.f[i], w.k2 + i * K);
        dg[i] += before;
        before += static_cast<double>(dot(view(ki, K), in(w.k2 + i * K)));
        through_state[i] = static_cast<double>(dot(view(w.q + i * K, K), in(w.dq + i * K)) +
                                               dot(view(ki, K), in(w.dk + i * K)));
        T dbeta = dot(view(w.y + i * W, W), in(w.n + i * W));
        double row = 0;
        for (Index j = 0; j < i; ++j) {
            const Index ij = i * C + j;
            const T dM = -w.b[ij];
            dbeta += dM * w.kd[ij];
            row += static_cast<double>(w.j[ij] * w.a[ij] - dM * w.m[ij]);
            dg[j + 1] += row;
            w.j[ij] *= w.decay[ij];
            w.b[ij] = w.b[j * C + i] = dM * w.beta[i] * w.decay[ij];  // B + Bᵀ: both meet K
        }
        w.b[i * C + i] = 0;
        std::fill_n(w.j + i * C + i + 1, C - 1 - i, T(0));
        if (i < c) gradients.beta[first + i] = dbeta;
    }
    double after = 0;
    for (Index i = C - 1; i >= 0; --i) {
        after += through_state[i];
        if (i < c) gradients.log_decay[first + i] = static_cast<T>(dg[i] + after);
    }

    product<T>(C, K, C, {w.j, C, 1}, w.k, K, w.dq, K, true);
    product<T>(C, K, C, {w.j, 1, C}, w.q, K, w.dk, K, true);
    product<T>(C, K, C, {w.b, C, 1}, w.k, K, w.dk, K, true);
    out(C * K, w.dk) += in(w.k2);
    scale_row(keys * W, w.e[C - 1], w.ds);
    for (Index i = 0; i < C; ++i) {
        scale_row(K, w.e[i], w.q + i * K);
        scale_row(K, -w.e[i], w.k + i * K);
    }
    gated_delta_leave<T, D, V, C>(keys, w.q, w.k, gradients, first, c, w);
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
