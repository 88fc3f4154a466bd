// The gated delta rule, block by block: the form for many tokens.
//
// Inside a block of C tokens the recurrence is solved by forward substitution, and S is met by
// three products of C rows (README.md). C is the kernel's own choice and small: what a block costs
// beside 6 D² per token grows with C. Matches gated_delta_reference within 2e-5 (float) and 1e-12
// (double) of the largest value, at any decay.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/delta_rule/block.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// The fastest block, measured (benchmarks/delta_rule_benchmark.cpp).
template <Real T, Index D>
inline constexpr Index gated_delta_default_block = 8;

// The blocks that are tested and measured. They differ by rounding.
constexpr bool gated_delta_has_block(Index block) noexcept {
    return block >= 4 && block <= 64 && (block & (block - 1)) == 0;
}

// Bytes of arena that gated_delta_chunkwise<block> takes and gives back.
template <Real T, Index D>
constexpr Index gated_delta_workspace_bytes(
    Index block = gated_delta_default_block<T, D>) noexcept {
    return detail::gated_delta_scratch_bytes<T, D>(block);
}

// The states before tokens 0, interval, 2·interval, … of a call, for the backward pass.
//   data        [ceil(N / interval), D, D], written; null: nothing is recorded
//   interval    a multiple of Block
template <Real T>
struct GatedDeltaCheckpoints {
    T* data = nullptr;
    Index interval = 0;
};

// gated_delta_reference for all tokens of input, in blocks of Block tokens.
//   first_block   tokens of the first block, in (0, Block]: Block − position mod Block, so that
//                 blocks lie on absolute positions whatever a stream has seen; Block when
//                 checkpoints are recorded
//   arena         gated_delta_workspace_bytes<T, D>(Block), given back
// out aliases none of the inputs. No allocation, no errors. Cost: (6 D² + 4 D Block) FLOP per
// token, and two copies of S per call. Cutting a call at a block boundary changes no bit.
template <Index Block, Real T, Index D>
void gated_delta_chunkwise(const GatedDeltaInput<T, D>& input, MatrixView<T, D> state,
                           MatrixView<T, D> out, Index first_block, Arena& arena,
                           GatedDeltaCheckpoints<T> checkpoints = {}) noexcept {
    using Plan = detail::GatedDeltaPlan<T, D, Block>;
    const Index tokens = input.tokens();
    if (tokens == 0) return;
    const Arena::Scope scope(arena);
    const detail::GatedDeltaScratch<T, D, Block> w(arena);

    // [D, D] ↔ [panels, D, width], zeros in the columns behind D
    const auto element = [&](Index i, Index j) -> T& {
        return w.state[(j / Plan::width * D + i) * Plan::width + j % Plan::width];
    };
    for (Index i = 0; i < D; ++i)
        for (Index j = 0; j < Plan::padded; ++j) element(i, j) = j < D ? state(i, j) : T(0);

    for (Index t = 0, c = std::min(first_block, tokens); t < tokens;
         t += c, c = std::min(Block, tokens - t)) {
        if (checkpoints.data != nullptr && t % checkpoints.interval == 0) {
            T* kept = checkpoints.data + t / checkpoints.interval * D * D;
            for (Index i = 0; i < D; ++i)
                for (Index j = 0; j < D; ++j) kept[i * D + j] = element(i, j);
        }
        const auto block = input.middle(t, c);
        const auto block_out = out.middle_rows(t, c);
        detail::gated_delta_prefetch<T, D>(input, out, t + c, std::min(Block, tokens - t - c));
        detail::gated_delta_prepare<T, D, Block>(block, c, w);
        for (Index p = 0; p + 1 < Plan::panels; ++p)
            detail::gated_delta_panel<T, D, Block, false>(block, c, p * Plan::width, w,
                                                          w.state + p * D * Plan::width, block_out);
        constexpr Index p = Plan::panels - 1;
        detail::gated_delta_panel<T, D, Block, D % Plan::lanes != 0>(
            block, c, p * Plan::width, w, w.state + p * D * Plan::width, block_out);
    }

    for (Index i = 0; i < D; ++i)
        for (Index j = 0; j < D; ++j) state(i, j) = element(i, j);
}

// The same with the default block.
template <Real T, Index D>
void gated_delta_chunkwise(const GatedDeltaInput<T, D>& input, MatrixView<T, D> state,
                           MatrixView<T, D> out, Index first_block, Arena& arena,
                           GatedDeltaCheckpoints<T> checkpoints = {}) noexcept {
    gated_delta_chunkwise<gated_delta_default_block<T, D>, T, D>(input, state, out, first_block,
                                                                 arena, checkpoints);
}

}  // namespace HYDRALM_NAMESPACE::kernels
