// Gradients of Block and Stack: the blocks' tapes in order, read backwards.
#pragma once

#include "hydralm/layers/residual_backward.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/block.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says, in place on x and dx [B·N, d].
template <class Mixer, class Mlp, class Norm>
class Training<Block<Mixer, Mlp, Norm>> {
public:
    using Module = Block<Mixer, Mlp, Norm>;
    using T = typename Module::Scalar;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        typename Training<typename Module::MixerPart>::Tape mixer;
        typename Training<typename Module::MlpPart>::Tape mlp;
    };

    constexpr explicit Training(const Module& module)
        : mixer_(module.mixer_part()), mlp_(module.mlp_part()) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        return mixer_.tape_bytes(B, N) + mlp_.tape_bytes(B, N);
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        return std::max(mixer_.workspace_bytes(B, N), mlp_.workspace_bytes(B, N));
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N, MatrixView<T> x,
                Tape& tape, Arena& kept, Arena& scratch) const noexcept {
        mixer_.record(p.mixer, streams, N, x, tape.mixer, kept, scratch);
        mlp_.record(p.mlp, streams, N, x, tape.mlp, kept, scratch);
    }

    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients,
                  Streams dstates, Arena& scratch) const noexcept {
        mlp_.backward(p.mlp, transposed.mlp, tape.mlp, streams, N, dx, gradients.mlp, dstates,
                      scratch);
        mixer_.backward(p.mixer, transposed.mixer, tape.mixer, streams, N, dx, gradients.mixer,
                        dstates, scratch);
    }

private:
    [[no_unique_address]] Training<typename Module::MixerPart> mixer_;
    [[no_unique_address]] Training<typename Module::MlpPart> mlp_;
};

template <class... Blocks>
class Training<Stack<Blocks...>> {
public:
    using Module = Stack<Blocks...>;
    using T = typename Module::Scalar;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;
    using Tape = std::tuple<typename Training<Blocks>::Tape...>;

    constexpr explicit Training(const Module& module) : stack_(module) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        Index bytes = 0;
        stack_.for_each(
            [&](const auto& block, auto) { bytes += training_of(block).tape_bytes(B, N); });
        return bytes;
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        Index bytes = 0;
        stack_.for_each([&](const auto& block, auto) {
            bytes = std::max(bytes, training_of(block).workspace_bytes(B, N));
        });
        return bytes;
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N, MatrixView<T> x,
                Tape& tape, Arena& kept, Arena& scratch) const noexcept {
        const auto offsets = stack_.state_offsets();
        stack_.for_each([&](const auto& block, auto i) {
            training_of(block).record(std::get<i>(p), streams.at(offsets[i]), N, x,
                                      std::get<i>(tape), kept, scratch);
        });
    }

    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients,
                  Streams dstates, Arena& scratch) const noexcept {
        const auto offsets = stack_.state_offsets();
        stack_.for_each_reversed([&](const auto& block, auto i) {
            training_of(block).backward(std::get<i>(p), std::get<i>(transposed), std::get<i>(tape),
                                        streams.at(offsets[i]), N, dx, std::get<i>(gradients),
                                        dstates.at(offsets[i]), scratch);
        });
    }

private:
    [[no_unique_address]] Module stack_;
};

}  // namespace HYDRALM_NAMESPACE
