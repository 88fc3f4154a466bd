// A run of tokens as one affine map of the state: S_out = A S + U, whatever S is before the run.
//
// A = α_N (I − β_N k_N k_Nᵀ) … α_1 (I − β_1 k_1 k_1ᵀ) is what the rule makes of the identity when
// it writes zeros; U what it makes of 0. Runs compose: A₂ A₁, A₂ U₁ + U₂. The fast form matches the
// reference as gated_delta_chunkwise does its own.
#pragma once

#include <array>

#include "hydralm/kernels/delta_rule/chunkwise.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// map ← A map, for A of all tokens of input, of which k and the gates are read; from the identity
// on, it is A.
//   map     [D, D], read and overwritten
// No allocation, no errors. 4 D² FLOP per token.
template <Real T, Index D>
void gated_delta_transition_reference(const GatedDeltaInput<T, D>& input,
                                      MatrixView<T, D> map) noexcept {
    for (Index t = 0; t < input.tokens(); ++t) {
        const T alpha = std::exp(input.log_decay[t]);
        for (Index j = 0; j < map.cols(); ++j) {
            T product = 0;
            for (Index i = 0; i < map.rows(); ++i) product += input.k(t, i) * map(i, j);
            for (Index i = 0; i < map.rows(); ++i)
                map(i, j) = alpha * (map(i, j) - input.beta[t] * product * input.k(t, i));
        }
    }
}

// The same in blocks of Block tokens, by gated_delta_chunkwise.
//   out          [N, D], scratch; aliases nothing
//   first_block  as there
//   arena        gated_delta_workspace_bytes<T, D>(Block), given back
// No allocation, no errors. Cost: that of gated_delta_chunkwise.
template <Index Block, Real T, Index D>
void gated_delta_transition(GatedDeltaInput<T, D> input, MatrixView<T, D> map, MatrixView<T, D> out,
                            Index first_block, Arena& arena) noexcept {
    static_assert(D != dynamic);
    alignas(alignment) static constexpr std::array<T, static_cast<std::size_t>(D)> zeros{};
    input.v = {zeros.data(), input.tokens(), D, 0};
    gated_delta_chunkwise<Block>(input, map, out, first_block, arena);
}

// state ← map before + state: U of a run becomes S behind it.
//   map      [D, D], A of the run
//   before   [D, D], S before it; state aliases neither
// No allocation, no errors. 2 D³ FLOP.
template <Real T, Index D>
void gated_delta_carry(MatrixView<const T, D> map, MatrixView<const T, D> before,
                       MatrixView<T, D> state) noexcept {
    for (Index i = 0; i < D; ++i)
        for (Index j = 0; j < D; ++j)
            hydralm::out<D>(state.row(i)) = fma(map(i, j), in(before.row(j)), in(state.row(i)));
}

}  // namespace HYDRALM_NAMESPACE::kernels
