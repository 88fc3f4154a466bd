// One block of the chunkwise gated delta rule where every key channel has a decay of its own: what
// of it S does not enter. The panels are those of block.hpp.
//
// The decay between two tokens is a vector within their dot product:
//   M_ij = β_i Σ_d k_i[d] D_ij[d] k_j[d]      A_ij = Σ_d q_i[d] D_ij[d] k_j[d]
//   X = L⁻¹ β(V − (E ⊙ K) S)     O = (E ⊙ Q) S + A X     S' = e^Γ ⊙ S + (F ⊙ K)ᵀ X
// D_ij = α_{j+1} ⊙ … ⊙ α_i is a product of at most Block factors in [0, 1]: nothing overflows or
// cancels, and where α = 0 nothing is left of what was before.
#pragma once

#include "hydralm/kernels/delta_rule/block.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// k and q hold E ⊙ K and E ⊙ Q, so e and f are 1; decay is not used.
template <Real T, Index D, Index V, Index Block>
struct GatedDeltaChannelScratch : GatedDeltaScratch<T, D, V, Block> {
    using Plan = GatedDeltaPlan<T, D, Block>;

    T* alpha;  // [Block, padded]: α, in the end E, whose last row is e^Γ
    T* fk;     // [Block, padded]: F ⊙ K

    GatedDeltaChannelScratch(Arena& arena, Index keys, Index values) noexcept
        : GatedDeltaScratch<T, D, V, Block>(arena, keys, values),
          alpha(arena.take<T>(Block * Plan::padded_of(keys))),
          fk(arena.take<T>(Block * Plan::padded_of(keys))) {}

    const T* written() const noexcept { return fk; }
};

// Bytes of a GatedDeltaChannelScratch<T, D, V, block> of so many keys and values.
template <Real T, Index D, Index V>
constexpr Index gated_delta_channel_scratch_bytes(Index block, Index keys, Index values) noexcept {
    return gated_delta_scratch_bytes<T, D, V>(block, keys, values) +
           2 * arena_bytes<T>(block * GatedDeltaPlan<T, D, 4>::padded_of(keys));
}

// Rows of one tile of dot products: those with one key are a batch.
template <Real T, Index Block>
inline constexpr Index carried_rows = std::clamp(simd::lanes<T> / 2, Index(1), Block);

// Key j, which `carried` holds as D_{i0−1,j} ⊙ k_j, past the tokens [i0, i0 + R) and into column j
// of kd and qd. From: its own row in the tile, −1 for a key before it.
template <Real T, Index Block, Index From>
[[gnu::always_inline]] inline void gated_delta_carry_key(Index i0, Index j, Index padded,
                                                         const T* alpha, const T* q, const T* k,
                                                         T* carried, T* kd, T* qd) noexcept {
    using simd::Batch;
    constexpr Index lanes = simd::lanes<T>, R = carried_rows<T, Block>;
    static_assert(2 * R <= lanes, "two sums a row are those of one batch");
    std::array<Batch<T>, static_cast<std::size_t>(lanes)> sums;  // qd of row r, kd of row r, …
    simd::unroll<lanes>([&](auto l) { sums[l] = Batch<T>(T(0)); });
    for (Index d = 0; d < padded; d += lanes) {
        Batch<T> key = simd::load<T>(carried + j * padded + d);
        simd::unroll<R>([&](auto r) {
            const Index at = (i0 + r) * padded + d;
            if constexpr (r > From) {
                key = simd::load<T>(alpha + at) * key;
                sums[2 * r + 1] = simd::fma(simd::load<T>(k + at), key, sums[2 * r + 1]);
            }
            if constexpr (r >= From)
                sums[2 * r] = simd::fma(simd::load<T>(q + at), key, sums[2 * r]);
        });
        simd::store<T>(carried + j * padded + d, key);
    }
    alignas(alignment) LocalArray<T, lanes> tile;
    simd::store<T>(tile, simd::sum_each<T>(sums));
    simd::unroll<R>([&](auto r) {
        if constexpr (r > From) kd[(i0 + r) * Block + j] = tile[2 * r + 1];
        if constexpr (r >= From) qd[(i0 + r) * Block + j] = tile[2 * r];
    });
}

// All keys of a block down its rows. Rows are [Block, padded].
//   carried   K; out: F ⊙ K
//   kd, qd    [Block, Block]: k_iᵀ (D_ij ⊙ k_j) for j < i and q_iᵀ (D_ij ⊙ k_j) for j ≤ i, no
//   others
template <Real T, Index Block>
[[gnu::flatten]] void gated_delta_carry(Index padded, const T* alpha, const T* q, const T* k,
                                        T* carried, T* kd, T* qd) noexcept {
    constexpr Index R = carried_rows<T, Block>;
    for (Index i0 = 0; i0 < Block; i0 += R) {
        for (Index j = 0; j < i0; ++j)
            gated_delta_carry_key<T, Block, -1>(i0, j, padded, alpha, q, k, carried, kd, qd);
        simd::unroll<R>([&](auto r) {
            gated_delta_carry_key<T, Block, r>(i0, i0 + r, padded, alpha, q, k, carried, kd, qd);
        });
    }
}

// Everything of a block that S does not enter: M, A, e^Γ, E ⊙ K, E ⊙ Q and F ⊙ K. Behind c, g = β =
// 0.
template <Real T, Index D, Index Block, Index V>
void gated_delta_prepare(const GatedDeltaInput<T, D, V, ChannelDecay<T, D>>& input, Index c,
                         const GatedDeltaChannelScratch<T, D, V, Block>& w) noexcept {
    using simd::Batch;
    const Index padded = GatedDeltaPlan<T, D, Block>::padded_of(input.k.cols());
    gated_delta_pack<T, D, Block>(input.log_decay, c, w.alpha);
    exponentiate<T>(w.alpha, Block * padded);
    gated_delta_pack<T, D, Block>(input.k, c, w.k);
    gated_delta_pack<T, D, Block>(input.q, c, w.q);
    std::copy_n(w.k, Block * padded, w.fk);
    gated_delta_carry<T, Block>(padded, w.alpha, w.q, w.k, w.fk, w.m, w.a);
    for (Index i = 0; i < Block; ++i) {
        w.beta[i] = i < c ? input.beta[i] : T(0);
        w.e[i] = w.f[i] = T(1);
        for (Index j = 0; j < i; ++j) w.m[i * Block + j] *= w.beta[i];
    }
    for (Index d = 0; d < padded; d += simd::lanes<T>) {
        Batch<T> e(T(1));
        for (Index at = d; at < Block * padded; at += padded) {
            e = e * simd::load<T>(w.alpha + at);
            simd::store<T>(w.alpha + at, e);
            simd::store<T>(w.k + at, e * simd::load<T>(w.k + at));
            simd::store<T>(w.q + at, e * simd::load<T>(w.q + at));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
