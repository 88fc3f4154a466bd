// Recomputed: the gradient of a stack with the tape of one block at a time.
//
// Kept are the input of every block and the streams' states before it; backward records a block
// again just before its gradient. The same bits as Training<Stack>, for one more forward in time.
#pragma once

#include <algorithm>
#include <array>

#include "hydralm/model/block_backward.hpp"

namespace HYDRALM_NAMESPACE {

template <class Module>
class Recomputed;

template <class Module>
constexpr Recomputed<Module> recomputed(const Module& module) noexcept {
    return Recomputed<Module>(module);
}

// As Training<Stack<Blocks...>>, with its workspace. width: d_model.
template <class... Blocks>
class Recomputed<Stack<Blocks...>> {
public:
    using Module = Stack<Blocks...>;
    using T = typename Module::Scalar;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        std::array<MatrixView<T>, sizeof...(Blocks)> inputs;  // [B·N, d] each
        std::byte* states = nullptr;  // those of stream b from b · (bytes of a state)
        Arena* blocks = nullptr;      // where the tape of a block is recorded
    };

    constexpr explicit Recomputed(const Module& module) : stack_(module) {}

    constexpr Index tape_bytes(Index B, Index N, Index width) const noexcept {
        Index largest = 0;
        stack_.for_each([&](const auto& block, auto) {
            largest = std::max(largest, training_of(block).tape_bytes(B, N));
        });
        return Module::size * arena_bytes<T>(B * N * width) +
               arena_bytes<std::byte>(B * all_state_bytes()) + largest;
    }
    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N, MatrixView<T> x,
                Tape& tape, Arena& kept, Arena& scratch) const noexcept {
        const auto offsets = stack_.state_offsets();
        const Index state = all_state_bytes();
        for (auto& input : tape.inputs) input = detail::take_matrix<T>(kept, x.rows(), x.cols());
        tape.states = kept.take<std::byte>(streams.count() * state);
        tape.blocks = &kept;
        for (Index b = 0; b < streams.count(); ++b)
            std::copy_n(streams.bytes(b), state, tape.states + b * state);
        stack_.for_each([&](const auto& block, auto i) {
            std::copy_n(x.data(), x.rows() * x.cols(), tape.inputs[i].data());
            const Arena::Scope scope(kept);
            typename Training<std::decay_t<decltype(block)>>::Tape unused{};
            training_of(block).record(std::get<i>(p), streams.at(offsets[i]), N, x, unused, kept,
                                      scratch);
        });
    }

    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients,
                  Streams dstates, Arena& scratch) const noexcept {
        const auto offsets = stack_.state_offsets();
        stack_.for_each_reversed([&](const auto& block, auto i) {
            const Streams own = streams.at(offsets[i]);
            for (Index b = 0; b < own.count(); ++b)
                std::copy_n(tape.states + b * all_state_bytes() + offsets[i].bytes,
                            offsets[i + 1].bytes - offsets[i].bytes, own.bytes(b));
            const Arena::Scope scope(*tape.blocks);
            typename Training<std::decay_t<decltype(block)>>::Tape again{};
            training_of(block).record(std::get<i>(p), own, N, tape.inputs[i], again, *tape.blocks,
                                      scratch);
            training_of(block).backward(std::get<i>(p), std::get<i>(transposed), again, own, N, dx,
                                        std::get<i>(gradients), dstates.at(offsets[i]), scratch);
        });
    }

private:
    constexpr Index all_state_bytes() const noexcept { return stack_.all_states().bytes; }

    [[no_unique_address]] Module stack_;
};

}  // namespace HYDRALM_NAMESPACE
