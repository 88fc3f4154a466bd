// Gradients of the gated delta rule, chunk by chunk in reverse, from the states that the forward
// pass kept.
//
// Everything but S at each chunk's start is recomputed: memory is O(N (D + V) + N/C · D V). Matches
// gated_delta_backward_reference within 1e-4 (float) and 1e-10 (double) of the largest value of a
// gradient. Symbols and derivation: README.md.
#pragma once

#include "hydralm/kernels/delta_rule/channel_backward_chunk.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// The chunk of gated_delta_backward: one kept state per this many tokens. A power of two, a
// multiple of the forward block.
inline constexpr Index gated_delta_training_chunk = 32;

// Bytes of arena that gated_delta_backward<Chunk> takes and gives back; where D and V are dynamic,
// for keys and values of so many elements.
template <Real T, Index D, Index Chunk = gated_delta_training_chunk, Index V = D>
constexpr Index gated_delta_backward_workspace_bytes(
    Index keys = detail::known_extent<D>, Index values = detail::known_extent<V>) noexcept {
    return detail::GatedDeltaBackwardScratch<T, D, V, Chunk>::bytes(keys, values);
}
// The same where every key channel has a decay.
template <Real T, Index D, Index Chunk = gated_delta_training_chunk, Index V = D>
constexpr Index gated_delta_channel_backward_workspace_bytes(
    Index keys = detail::known_extent<D>, Index values = detail::known_extent<V>) noexcept {
    return detail::GatedDeltaChannelBackwardScratch<T, D, V, Chunk>::bytes(keys, values);
}

// The gradients of gated_delta_backward_reference.
//   input        N tokens of one head
//   checkpoints  [ceil(N / Chunk), D, V]: what gated_delta_chunkwise kept with interval Chunk
//   dout         [N, V]
//   dstate       [D, V]: in, the gradient of the final state; out, of the first; a null view: 0
//   gradients    written; alias nothing
//   arena        gated_delta_backward_workspace_bytes<T, D, Chunk, V>(), or, with a decay for every
//                key channel, gated_delta_channel_backward_workspace_bytes, given back
// No allocation, no errors. Cost: (14 D V + 10 D Chunk + 6 V Chunk) FLOP per token and a few passes
// over two states per chunk; with a decay for every key channel as many, but that those of D Chunk
// are no products, and D exponentials more.
template <Index Chunk = gated_delta_training_chunk, Real T, Index D, Index V,
          class Decay = HeadDecay<T>>
void gated_delta_backward(const GatedDeltaInput<T, D, V, Decay>& input,
                          const std::type_identity_t<T>* checkpoints,
                          std::type_identity_t<MatrixView<const T, V>> dout,
                          std::type_identity_t<MatrixView<T, V>> dstate,
                          const GatedDeltaGradients<T, D, V, Decay>& gradients,
                          Arena& arena) noexcept {
    const Index keys = input.k.cols(), values = input.v.cols();
    const Arena::Scope scope(arena);
    using Scratch = std::conditional_t<GatedDeltaInput<T, D, V, Decay>::per_channel,
                                       detail::GatedDeltaChannelBackwardScratch<T, D, V, Chunk>,
                                       detail::GatedDeltaBackwardScratch<T, D, V, Chunk>>;
    const Scratch w(arena, keys, values);
    const auto take = [&](const T* from, Index stride, T* to) {
        for (Index i = 0; i < keys; ++i) std::copy_n(from + i * stride, values, to + i * w.W);
    };
    std::fill_n(w.s, w.K * w.W, T(0));
    std::fill_n(w.ds, w.K * w.W, T(0));
    if (dstate.data() != nullptr) take(dstate.data(), dstate.stride(), w.ds);
    for (Index chunk = ceil_div(input.tokens(), Chunk); chunk-- > 0;) {
        const Index first = chunk * Chunk;
        const Index c = std::min(Chunk, input.tokens() - first);
        take(checkpoints + chunk * keys * values, values, w.s);
        detail::gated_delta_backward_chunk<T, D, V, Chunk>(
            input.middle(first, c), c, dout.middle_rows(first, c), gradients, first, w);
    }
    if (dstate.data() != nullptr) detail::unpack_rows<T, V>(w.ds, w.W, dstate);
}

}  // namespace HYDRALM_NAMESPACE::kernels
