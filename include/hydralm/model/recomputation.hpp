// Recomputed: the gradient of a stack with the tape of one block at a time.
//
// Kept are the input of every block and the streams' states before it; backward records a block
// again just before its gradient. The same bits as the stack's own, for one more forward in time.
#pragma once

#include <algorithm>
#include <array>

#include "hydralm/model/stack.hpp"

namespace HYDRALM_NAMESPACE {

template <class Stack>
class Recomputed;

template <class Stack>
constexpr Recomputed<Stack> recomputed(const Stack& stack) noexcept {
    return Recomputed<Stack>(stack);
}

// A stack to whoever takes a tape, records and goes back.
template <class... Blocks>
class Recomputed<StackOf<Blocks...>> {
public:
    using Module = StackOf<Blocks...>;
    using T = typename Module::Scalar;

    constexpr explicit Recomputed(const Module& module) : stack_(module) {}

    struct Tape {
        std::array<MatrixView<T>, sizeof...(Blocks)> inputs;  // [B·N, d] each
        std::byte* states;  // those of stream b from b · (bytes of a state)
        TaskScratch block;  // where the tape of a block is recorded
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        for (auto& input : t.inputs) v.matrix(input, call.rows(), stack_.d_model());
        v.array(t.states, call.streams * state_bytes());
        Index largest = 0;
        stack_.for_each([&](const auto& block, auto) {
            largest = std::max(largest, tape_bytes(block, call.streams, call.tokens));
        });
        v.tasks(t.block, 1, largest);
    }
    using Scratch = typename Module::Scratch;
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        stack_.visit_scratch(s, v, call);
    }
    using BackwardScratch = typename Module::BackwardScratch;
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        stack_.visit_backward_scratch(s, v, call);
        v.within(scratch_bytes(stack_,
                               {.streams = call.streams, .tokens = call.tokens, .recorded = true}));
    }

    template <class P>
    void forward(const P& p, Streams streams, Index N, MatrixView<T> x, Form form, Arena& arena,
                 const Tape& tape, LayerWatch* watch = nullptr) const noexcept {
        const auto offsets = stack_.state_offsets();
        stack_.for_each([&](const auto& block, auto i) {
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            const Streams own = streams.at(offsets[i]);
            for (Index b = 0; b < own.count(); ++b)
                std::copy_n(own.bytes(b), offsets[i + 1].bytes - offsets[i].bytes,
                            tape.states + b * state_bytes() + offsets[i].bytes);
            std::copy_n(x.data(), x.rows() * x.cols(), tape.inputs[i].data());
            Arena memory = tape.block.of(0);
            block.forward(std::get<i>(p), own, N, x, form, arena,
                          take_tape(block, memory, streams.count(), N));
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        });
    }

    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<T> dx, G& gradients, Streams dstates, Arena& arena,
                  LayerWatch* watch = nullptr) const noexcept {
        const auto offsets = stack_.state_offsets();
        stack_.for_each_reversed([&](const auto& block, auto i) {
            const Streams own = streams.at(offsets[i]);
            for (Index b = 0; b < own.count(); ++b)
                std::copy_n(tape.states + b * state_bytes() + offsets[i].bytes,
                            offsets[i + 1].bytes - offsets[i].bytes, own.bytes(b));
            Arena memory = tape.block.of(0);
            const auto again = take_tape(block, memory, own.count(), N);
            block.forward(std::get<i>(p), own, N, tape.inputs[i], Form::parallel, arena, again);
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            block.backward(std::get<i>(p), std::get<i>(transposed), again, own, N, dx,
                           std::get<i>(gradients), dstates.at(offsets[i]), arena);
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        });
    }

private:
    constexpr Index state_bytes() const noexcept { return stack_.all_states().bytes; }

    [[no_unique_address]] Module stack_;
};

}  // namespace HYDRALM_NAMESPACE
