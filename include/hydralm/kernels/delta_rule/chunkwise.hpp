// The gated delta rule, block by block: the form for many tokens.
//
// Inside a block of C tokens the recurrence is solved by forward substitution, and S is met by
// three products of C rows (README.md). C is the kernel's own choice and small: what a block costs
// beside 6 D² per token grows with C. Matches gated_delta_reference within 2e-5 (float) and 1e-12
// (double) of the largest value, at any decay.
#pragma once

#include <algorithm>

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/delta_rule/channel_block.hpp"

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
                                            Index keys = detail::known_extent<D>,
                                            Index values = detail::known_extent<V>) noexcept {
    return detail::gated_delta_scratch_bytes<T, D, V>(block, keys, values);
}
// The same where every key channel has a decay.
template <Real T, Index D, Index V = D>
constexpr Index gated_delta_channel_workspace_bytes(
    Index block = gated_delta_default_block<T, D>, Index keys = detail::known_extent<D>,
    Index values = detail::known_extent<V>) noexcept {
    return detail::gated_delta_channel_scratch_bytes<T, D, V>(block, keys, values);
}

// The states before tokens 0, interval, 2·interval, … of a call, for the backward pass.
//   data        [ceil(N / interval), D, V], written; null: nothing is recorded
//   interval    a multiple of Block
template <Real T>
struct GatedDeltaCheckpoints {
    T* data = nullptr;
    Index interval = 0;
};

namespace detail {

// size ≤ Width elements; Width of them by whole vectors.
template <Index Width, Real T>
void copy_row(const T* from, Index size, T* to) noexcept {
    if (size == Width) std::copy_n(from, Width, to);
    else std::copy_n(from, size, to);
}

}  // namespace detail

// gated_delta_reference for all tokens of input, in blocks of Block tokens.
//   first_block   tokens of the first block, in (0, Block]: Block − position mod Block, so that
//                 blocks lie on absolute positions whatever a stream has seen; Block when
//                 checkpoints are recorded
//   arena         gated_delta_workspace_bytes<T, D>(Block), or, with a decay for every key channel,
//                 gated_delta_channel_workspace_bytes, given back
// out aliases none of the inputs. No allocation, no errors. Cost: (6 D V + 2 (D + V) Block) FLOP
// per token, with a decay for every key channel D Block / 2 and D exponentials more, and two copies
// of S per call. Cutting a call at a block boundary changes no bit.
template <Index Block, Real T, Index D, Index V, class Decay = HeadDecay<T>>
void gated_delta_chunkwise(const GatedDeltaInput<T, D, V, Decay>& input, MatrixView<T, V> state,
                           MatrixView<T, V> out, Index first_block, Arena& arena,
                           GatedDeltaCheckpoints<T> checkpoints = {}) noexcept {
    constexpr Index width = detail::GatedDeltaPlan<T, V, Block>::width;
    const Index tokens = input.tokens(), keys = input.k.cols(), values = input.v.cols();
    if (tokens == 0) return;
    const Arena::Scope scope(arena);
    using Scratch = std::conditional_t<GatedDeltaInput<T, D, V, Decay>::per_channel,
                                       detail::GatedDeltaChannelScratch<T, D, V, Block>,
                                       detail::GatedDeltaScratch<T, D, V, Block>>;
    const Scratch w(arena, keys, values);

    // [D, V] ↔ [panels, D, width], zeros in the columns behind V
    const Index padded = round_up(values, width);
    const auto each_row =
        [&](auto&& copy) {  // of S's panels: the row there, where it is from, size
            for (Index column = 0; column < values; column += width)
                for (Index i = 0; i < keys; ++i)
                    copy(w.state + column * keys + i * width, i, column,
                         std::min(width, values - column));
        };
    each_row([&](T* row, Index i, Index column, Index size) {
        if (size < width) std::fill_n(row, width, T(0));
        detail::copy_row<width>(state.row(i) + column, size, row);
    });

    const Index last = padded - width;  // where the last panel begins, which alone may be partial
    for (Index t = 0, c = std::min(first_block, tokens); t < tokens;
         t += c, c = std::min(Block, tokens - t)) {
        if (checkpoints.data != nullptr && t % checkpoints.interval == 0) {
            T* kept = checkpoints.data + t / checkpoints.interval * keys * values;
            each_row([&](const T* row, Index i, Index column, Index size) {
                detail::copy_row<width>(row, size, kept + i * values + column);
            });
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

    each_row([&](const T* row, Index i, Index column, Index size) {
        detail::copy_row<width>(row, size, state.row(i) + column);
    });
}

// The same with the default block.
template <Real T, Index D, Index V, class Decay = HeadDecay<T>>
void gated_delta_chunkwise(const GatedDeltaInput<T, D, V, Decay>& input, MatrixView<T, V> state,
                           MatrixView<T, V> out, Index first_block, Arena& arena,
                           GatedDeltaCheckpoints<T> checkpoints = {}) noexcept {
    gated_delta_chunkwise<gated_delta_default_block<T, D>, T, D, V, Decay>(
        input, state, out, first_block, arena, checkpoints);
}

}  // namespace HYDRALM_NAMESPACE::kernels
