// Gradients of the gated delta rule, chunk by chunk in reverse, from the states that the forward
// pass kept.
//
// Everything but S at each chunk's start is recomputed: memory is O(N D + N/C · D²). Matches
// gated_delta_backward_reference within 1e-4 (float) and 1e-10 (double) of the largest value of a
// gradient. Symbols and derivation: README.md.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/delta_rule/backward_reference.hpp"
#include "hydralm/kernels/delta_rule/block.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

inline constexpr Index substitution_rows = 8;  // of one tile of a substitution; divides every chunk

// Scratch of one chunk; P = D padded to whole batches.
template <Real T, Index D, Index C>
struct GatedDeltaBackwardScratch {
    static_assert(C % substitution_rows == 0,
                  "hydralm: chunk: must be a power of two, 8 or more; 16 to 64 are usual");
    static constexpr Index P = GatedDeltaPlan<T, D, C>::padded;

    T *s, *st, *ds, *dst;                             // [P, P]: S, Sᵀ, dS', dS'ᵀ
    T *k, *q, *dout, *n, *x, *y, *dv, *dq, *dk, *k2;  // [C, P]
    T *decay, *kd, *a, *m, *j, *b;                    // [C, C]; kd = (k_i·k_j) D_ij, m = −M
    T *e, *f, *beta;                                  // [C]

    explicit GatedDeltaBackwardScratch(Arena& arena) noexcept {
        for (T** square : {&s, &st, &ds, &dst}) *square = arena.take<T>(P * P);
        for (T** rows : {&k, &q, &dout, &n, &x, &y, &dv, &dq, &dk, &k2})
            *rows = arena.take<T>(C * P);
        for (T** gate : {&decay, &kd, &a, &m, &j, &b})
            *gate = arena.take<T>(round_up(C * C, simd::lanes<T>));
        for (T** token : {&e, &f, &beta}) *token = arena.take<T>(round_up(C, simd::lanes<T>));
    }
    static constexpr Index bytes() noexcept {
        return 4 * arena_bytes<T>(P * P) + 10 * arena_bytes<T>(C * P) +
               6 * arena_bytes<T>(round_up(C * C, simd::lanes<T>)) +
               3 * arena_bytes<T>(round_up(C, simd::lanes<T>));
    }
};

// y[n] ← scale · y.
template <Real T>
void scale_row(Index n, T scale, T* y) noexcept {
    out(n, y) = scale * in(y);
}

// The first c rows of packed [·, P] into a view of D columns.
template <Real T, Index D>
void unpack_rows(const T* packed, Index P, Index c, MatrixView<T, D> rows) noexcept {
    for (Index i = 0; i < c; ++i) std::copy_n(packed + i * P, D, rows.row(i));
}

// What the gradients need of the forward pass: N, X, kd, A, −M. w.s holds S.
template <Real T, Index D, Index C>
void gated_delta_recompute(const GatedDeltaInput<T, D>& input, Index c,
                           const GatedDeltaBackwardScratch<T, D, C>& w) noexcept {
    constexpr Index P = GatedDeltaPlan<T, D, C>::padded;
    gated_delta_gates<T, D, C>(input, c, w);
    gated_delta_pack<T, D, C>(input.k, c, w.k);
    gated_delta_pack<T, D, C>(input.q, c, w.q);
    gated_delta_pack<T, D, C>(input.v, c, w.n);
    gated_delta_gram<T, D, C>(w.k, w.k, w.kd);
    gated_delta_gram<T, D, C>(w.q, w.k, w.a);
    for (Index i = 0; i < C; ++i) {
        for (Index j = 0; j < C; ++j) {
            const Index ij = i * C + j;
            if (j > i) w.decay[ij] = 0;
            w.kd[ij] = j < i ? w.kd[ij] * w.decay[ij] : T(0);
            w.a[ij] = j <= i ? w.a[ij] * w.decay[ij] : T(0);
            w.m[ij] = -w.beta[i] * w.kd[ij];
        }
    }
    product<T>(C, P, D, {w.k, P, 1}, w.s, P, w.x, P, false);  // K S
    for (Index i = 0; i < C; ++i) {
        T* const n = w.n + i * P;
        T* const x = w.x + i * P;
        const auto value = in(n);
        const auto target = value - w.e[i] * in(x);
        out<P>(n, x) = values(target, w.beta[i] * target);
    }
    for (Index i0 = 0; i0 < C; i0 += substitution_rows) {  // earlier tiles at once, then row by row
        T* const tile = w.x + i0 * P;
        product<T>(substitution_rows, P, i0, {w.m + i0 * C, C, 1}, w.x, P, tile, P, true);
        for (Index r = 1; r < substitution_rows; ++r)
            product<T>(1, P, r, {w.m + (i0 + r) * C + i0, C, 1}, tile, P, tile + r * P, P, true);
    }
}

// One chunk: gradients of its tokens, and w.ds from that of the state behind it to that of the
// state before it.
template <Real T, Index D, Index C>
void gated_delta_backward_chunk(const GatedDeltaInput<T, D>& input, Index c,
                                MatrixView<const T, D> dout,
                                const GatedDeltaGradients<T, D>& gradients, Index first,
                                const GatedDeltaBackwardScratch<T, D, C>& w) noexcept {
    constexpr Index P = GatedDeltaPlan<T, D, C>::padded;
    gated_delta_recompute<T, D, C>(input, c, w);
    gated_delta_pack<T, D, C>(dout, c, w.dout);
    transpose_square<T>(P, w.s, w.st);
    transpose_square<T>(P, w.ds, w.dst);

    // Y = L⁻ᵀ dX, dX = Aᵀ dO + F ⊙ (K dS')
    product<T>(C, P, D, {w.k, P, 1}, w.ds, P, w.y, P, false);
    for (Index i = 0; i < C; ++i) scale_row(P, w.f[i], w.y + i * P);
    product<T>(C, P, C, {w.a, 1, C}, w.dout, P, w.y, P, true);
    for (Index end = C; end > 0; end -= substitution_rows) {
        const Index j0 = end - substitution_rows;
        product<T>(substitution_rows, P, C - end, {w.m + end * C + j0, 1, C}, w.y + end * P, P,
                   w.y + j0 * P, P, true);
        for (Index j = end - 2; j >= j0; --j)
            product<T>(1, P, end - 1 - j, {w.m + (j + 1) * C + j, 1, C}, w.y + (j + 1) * P, P,
                       w.y + j * P, P, true);
    }
    for (Index i = 0; i < C; ++i) out<P>(w.dv + i * P) = w.beta[i] * in(w.y + i * P);

    product<T>(C, P, D, {w.dout, P, 1}, w.st, P, w.dq, P, false);  // q1 = E ⊙ (dO Sᵀ)
    product<T>(C, P, D, {w.dv, P, 1}, w.st, P, w.dk, P, false);    // k1 = −E ⊙ (dV Sᵀ)
    product<T>(C, P, D, {w.x, P, 1}, w.dst, P, w.k2, P, false);    // k2 = F ⊙ (X dS'ᵀ)
    gated_delta_gram<T, D, C>(w.dout, w.x, w.j);                   // dA
    gated_delta_gram<T, D, C>(w.y, w.x, w.b);                      // −dM

    // dg_l = e^Γ ⟨S, dS'⟩ + Σ_{i≥l} (q_i·q1_i + k_i·k1_i) + Σ_{i<l} k_i·k2_i + Σ_{i≥l} Σ_{j<l}
    // Z_ij, without a difference: where decay is strong, dg is far smaller than terms that would
    // cancel.
    LocalArray<double, C> dg{};
    LocalArray<double, C> through_state{};
    double before = static_cast<double>(w.e[C - 1] * dot(view<D * P>(w.s), in(w.ds)));
    for (Index i = 0; i < C; ++i) {
        const T* const ki = w.k + i * P;
        scale_row(P, w.e[i], w.dq + i * P);
        scale_row(P, -w.e[i], w.dk + i * P);
        scale_row(P, w.f[i], w.k2 + i * P);
        dg[i] += before;
        before += static_cast<double>(dot(view<P>(ki), in(w.k2 + i * P)));
        through_state[i] = static_cast<double>(dot(view<P>(w.q + i * P), in(w.dq + i * P)) +
                                               dot(view<P>(ki), in(w.dk + i * P)));
        T dbeta = dot(view<P>(w.y + i * P), in(w.n + i * P));
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

    product<T>(C, P, C, {w.j, C, 1}, w.k, P, w.dq, P, true);
    product<T>(C, P, C, {w.j, 1, C}, w.q, P, w.dk, P, true);
    product<T>(C, P, C, {w.b, C, 1}, w.k, P, w.dk, P, true);
    out<C * P>(w.dk) += in(w.k2);
    unpack_rows<T, D>(w.dq, P, c, gradients.q.middle_rows(first, c));
    unpack_rows<T, D>(w.dk, P, c, gradients.k.middle_rows(first, c));
    unpack_rows<T, D>(w.dv, P, c, gradients.v.middle_rows(first, c));

    scale_row(D * P, w.e[C - 1], w.ds);
    for (Index i = 0; i < C; ++i) {
        scale_row(P, w.e[i], w.q + i * P);
        scale_row(P, -w.e[i], w.k + i * P);
    }
    product<T>(D, P, C, {w.q, 1, P}, w.dout, P, w.ds, P, true);
    product<T>(D, P, C, {w.k, 1, P}, w.dv, P, w.ds, P, true);
}

}  // namespace detail

// The chunk of gated_delta_backward: one kept state per this many tokens. A power of two, a
// multiple of the forward block.
inline constexpr Index gated_delta_training_chunk = 32;

// Bytes of arena that gated_delta_backward<Chunk> takes and gives back.
template <Real T, Index D, Index Chunk = gated_delta_training_chunk>
constexpr Index gated_delta_backward_workspace_bytes() noexcept {
    return detail::GatedDeltaBackwardScratch<T, D, Chunk>::bytes();
}

// The gradients of gated_delta_backward_reference.
//   input        N tokens of one head
//   checkpoints  [ceil(N / Chunk), D, D]: what gated_delta_chunkwise kept with interval Chunk
//   dout         [N, D]
//   dstate       [D, D]: in, the gradient of the final state; out, of the first; a null view: 0
//   gradients    written; alias nothing
//   arena        gated_delta_backward_workspace_bytes<T, D, Chunk>(), given back
// No allocation, no errors. Cost: (14 D² + 16 D Chunk) FLOP per token and a few passes over two
// states per chunk.
template <Index Chunk = gated_delta_training_chunk, Real T, Index D>
void gated_delta_backward(const GatedDeltaInput<T, D>& input,
                          const std::type_identity_t<T>* checkpoints, MatrixView<const T, D> dout,
                          MatrixView<T, D> dstate, const GatedDeltaGradients<T, D>& gradients,
                          Arena& arena) noexcept {
    constexpr Index P = detail::GatedDeltaPlan<T, D, Chunk>::padded;
    const Arena::Scope scope(arena);
    const detail::GatedDeltaBackwardScratch<T, D, Chunk> w(arena);
    std::fill_n(w.s, P * P, T(0));
    std::fill_n(w.ds, P * P, T(0));
    if (dstate.data() != nullptr)
        for (Index i = 0; i < D; ++i) std::copy_n(dstate.row(i), D, w.ds + i * P);
    for (Index chunk = ceil_div(input.tokens(), Chunk); chunk-- > 0;) {
        const Index first = chunk * Chunk;
        const Index c = std::min(Chunk, input.tokens() - first);
        for (Index i = 0; i < D; ++i)
            std::copy_n(checkpoints + (chunk * D + i) * D, D, w.s + i * P);
        detail::gated_delta_backward_chunk<T, D, Chunk>(
            input.middle(first, c), c, dout.middle_rows(first, c), gradients, first, w);
    }
    if (dstate.data() != nullptr) detail::unpack_rows<T, D>(w.ds, P, D, dstate);
}

}  // namespace HYDRALM_NAMESPACE::kernels
