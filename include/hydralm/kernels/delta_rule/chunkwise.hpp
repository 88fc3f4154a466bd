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

// Bytes of arena that gated_delta_chunkwise<block> takes and gives back; where D and V are dynamic,
// for keys and values of so many elements.
template <Real T, Index D, Index V = D>
constexpr Index gated_delta_workspace_bytes(Index block = gated_delta_default_block<T, D>,
                                            Index keys = D, Index values = V) noexcept {
    return detail::gated_delta_scratch_bytes<T, D, V>(block, keys, values);
}

// The states before tokens 0, interval, 2·interval, … of a call, for the backward pass.
//   data        [ceil(N / interval), D, V], written; null: nothing is recorded
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
// out aliases none of the inputs. No allocation, no errors. Cost: (6 D V + 2 (D + V) Block) FLOP
// per token, and two copies of S per call. Cutting a call at a block boundary changes no bit.
template <Index Block, Real T, Index D, Index V>
void gated_delta_chunkwise(const GatedDeltaInput<T, D, V>& input, MatrixView<T, V> state,
                           MatrixView<T, V> out, Index first_block, Arena& arena,
                           GatedDeltaCheckpoints<T> checkpoints = {}) noexcept {
    constexpr Index width = detail::GatedDeltaPlan<T, V, Block>::width;
    const Index tokens = input.tokens(), keys = input.k.cols(), values = input.v.cols();
    if (tokens == 0) return;
    const Arena::Scope scope(arena);
    const detail::GatedDeltaScratch<T, D, V, Block> w(arena, keys, values);

    // [D, V] ↔ [panels, D, width], zeros in the columns behind V
    const auto element = [&](Index i, Index j) -> T& {
        return w.state[(j / width * keys + i) * width + j % width];
    };
    const Index padded = round_up(values, width);
    for (Index i = 0; i < keys; ++i)
        for (Index j = 0; j < padded; ++j) element(i, j) = j < values ? state(i, j) : T(0);

    const Index last = padded - width;  // where the last panel begins, which alone may be partial
    for (Index t = 0, c = std::min(first_block, tokens); t < tokens;
         t += c, c = std::min(Block, tokens - t)) {
        if (checkpoints.data != nullptr && t % checkpoints.interval == 0) {
            T* kept = checkpoints.data + t / checkpoints.interval * keys * values;
            for (Index i = 0; i < keys; ++i)
                for (Index j = 0; j < values; ++j) kept[i * values + j] = element(i, j);
        }
        const auto block = input.middle(t, c);
        const auto block_out = out.middle_rows(t, c);
        detail::gated_delta_prefetch<T, D>(input, out, t + c, std::min(Block, tokens - t - c));
        detail::gated_delta_prepare<T, D, Block>(block, c, w);
        const auto panel = [&](auto partial, Index column) {
            detail::gated_delta_panel<T, D, Block, partial>(block, c, column, w,
                                                            w.state + column * keys, block_out);
        };
        for (Index column = 0; column < last; column += width) panel(std::false_type(), column);
        if constexpr (V != dynamic) panel(std::bool_constant<V % simd::lanes<T> != 0>(), last);
        else if (values == padded) panel(std::false_type(), last);
        else panel(std::true_type(), last);
    }

    for (Index i = 0; i < keys; ++i)
        for (Index j = 0; j < values; ++j) state(i, j) = element(i, j);
}

// The same with the default block.
template <Real T, Index D, Index V>
void gated_delta_chunkwise(const GatedDeltaInput<T, D, V>& input, MatrixView<T, V> state,
                           MatrixView<T, V> out, Index first_block, Arena& arena,
                           GatedDeltaCheckpoints<T> checkpoints = {}) noexcept {
    gated_delta_chunkwise<gated_delta_default_block<T, D>, T, D, V>(input, state, out, first_block,
                                                                    arena, checkpoints);
}

}  // namespace HYDRALM_NAMESPACE::kernels
