// RuntimeStack: blocks one after the other, as many and of the kinds that a file says. What Stack
// is where they are a type.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/model/erased_block.hpp"
#include "hydralm/model/layer_watch.hpp"
#include "hydralm/model/recomputation.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T>
class RuntimeStack {
public:
    using Scalar = T;

    RuntimeStack(Index d_model, std::vector<std::unique_ptr<ErasedBlock<T>>> blocks)
        : d_model_(d_model), blocks_(std::move(blocks)) {
        for (const auto& block : blocks_) {
            offsets_.push_back(all_);
            all_ = all_ + block->state_extent();
        }
    }
    Index d_model() const noexcept { return d_model_; }
    Index size() const noexcept { return static_cast<Index>(blocks_.size()); }
    StateExtent all_states() const noexcept { return all_; }

    // One per block; made by the first visit.
    template <class Storage>
    struct Parameters {
        std::vector<std::shared_ptr<void>> blocks;
        void* operator[](std::size_t i) const noexcept { return blocks[i].get(); }
    };
    template <class Storage, class V>
    void visit(Parameters<Storage>& p, V& v) const {
        if (p.blocks.empty())
            for (const auto& block : blocks_)
                p.blocks.push_back(block->parameters(std::type_identity<Storage>{}));
        each(v, [&](const ErasedBlock<T>& block, std::size_t i) { block.visit(p[i], v); });
    }
    template <class Storage, class V>
    void visit(const Parameters<Storage>& p, V& v) const {
        each(v, [&](const ErasedBlock<T>& block, std::size_t i) {
            block.visit(static_cast<const void*>(p[i]), v);
        });
    }
    template <class V>
    void visit(Parameters<NoStorage>&, V& v) const {
        each(v, [&](const ErasedBlock<T>& block, std::size_t) { block.visit(v); });
    }

    // Throws Error for a policy that cannot be.
    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        StateParts parts;
        for (const auto& block : blocks_) block->add_state(parts, policy);
        return {std::move(parts), policy.state};
    }
    // sink(layer, name, shape, values).
    template <class Sink>
    void export_state(Streams streams, std::int64_t position, const Sink& sink) const {
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            blocks_[i]->export_state(
                streams.at(offsets_[i]), position,
                [&](const char* name, std::span<const Index> shape, const std::vector<T>& values) {
                    sink(i, name, shape, values);
                });
    }

    // As StackOf's.
    Index most_history() const noexcept {
        Index most = std::numeric_limits<Index>::max();
        for (const auto& block : blocks_) most = std::min(most, block->most_history());
        return most;
    }
    Index history_bytes(Index N) const noexcept {
        Index bytes = 0;
        for (const auto& block : blocks_) bytes += block->history_bytes(N);
        return bytes;
    }
    void rollback(const Stream& stream, Index N, Index kept, Arena& history) const noexcept {
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            blocks_[i]->rollback(Streams(&stream, 1).at(offsets_[i]), N, kept, history);
    }

    struct Scratch {};
    template <class V>
    void visit_scratch(Scratch&, V& v, const Call& call) const {
        for (const auto& block : blocks_) v.within(block->scratch_bytes(call));
    }
    struct Tape {
        TaskScratch memory;  // of one task: the blocks' tapes, one behind the other
    };
    template <class V>
    void visit_tape(Tape& t, V& v, const Call& call) const {
        v.tasks(t.memory, 1, tape_place(blocks_.size(), call.streams, call.tokens));
    }
    struct BackwardScratch {};
    template <class V>
    void visit_backward_scratch(BackwardScratch&, V& v, const Call& call) const {
        for (const auto& block : blocks_)
            v.within(block->backward_scratch_bytes(call.streams, call.tokens));
    }

    // As StackOf's.
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<T> x, Form form, Arena& arena,
                 const R& tape = {}, LayerWatch* watch = nullptr) const noexcept {
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            if constexpr (records<R>)
                record(i, p, streams, N, x, arena, kept(tape, i, streams.count(), N));
            else blocks_[i]->forward(p[i], streams.at(offsets_[i]), N, x, form, arena);
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        }
    }
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<T> dx, G& gradients, Streams dstates, Arena& arena,
                  LayerWatch* watch = nullptr) const noexcept {
        for (std::size_t i = blocks_.size(); i-- > 0;) {
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            backward(i, p, transposed, kept(tape, i, streams.count(), N), streams, N, dx, gradients,
                     dstates, arena);
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        }
    }

    // As StackOf's.
    template <class P, class F>
    void each_layer(const P& p, const F& f) const {
        for (std::size_t i = 0; i < blocks_.size(); ++i) f(*blocks_[i], p[i], offsets_[i]);
    }

    // Of block i alone, with a tape in kept; what Recomputed is made of.
    Index tape_bytes(std::size_t i, Index B, Index N) const noexcept {
        return blocks_[i]->tape_bytes(B, N);
    }
    template <class P>
    void record(std::size_t i, const P& p, Streams streams, Index N, MatrixView<T> x, Arena& arena,
                Arena kept) const noexcept {
        blocks_[i]->record(p[i], streams.at(offsets_[i]), N, x, arena, kept);
    }
    template <class P, class Q, class G>
    void backward(std::size_t i, const P& p, const Q& transposed, Arena kept, Streams streams,
                  Index N, MatrixView<T> dx, G& gradients, Streams dstates,
                  Arena& arena) const noexcept {
        blocks_[i]->backward(p[i], transposed[i], kept, streams.at(offsets_[i]), N, dx,
                             gradients[i], dstates.at(offsets_[i]), arena);
    }
    // The bytes of block i's state in a stream.
    std::pair<Index, Index> state_range(std::size_t i) const noexcept {
        const Index end = i + 1 < offsets_.size() ? offsets_[i + 1].bytes : all_.bytes;
        return {offsets_[i].bytes, end};
    }

private:
    template <class V, class F>
    void each(V& v, const F& f) const {
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            v.nested(std::to_string(i), [&] { f(*blocks_[i], i); });
    }
    // Where the tape of block i begins.
    Index tape_place(std::size_t i, Index B, Index N) const noexcept {
        Index place = 0;
        for (std::size_t j = 0; j < i; ++j) place += blocks_[j]->tape_bytes(B, N);
        return place;
    }
    Arena kept(const Tape& tape, std::size_t i, Index B, Index N) const noexcept {
        Arena arena = tape.memory.of(0);
        arena.take<std::byte>(tape_place(i, B, N));
        return arena;
    }

    Index d_model_;
    std::vector<std::unique_ptr<ErasedBlock<T>>> blocks_;
    std::vector<StateExtent> offsets_;
    StateExtent all_;
};

// As Recomputed<StackOf<Blocks...>>.
template <Real T>
class Recomputed<RuntimeStack<T>> {
public:
    using Module = RuntimeStack<T>;

    explicit Recomputed(const Module& module) : stack_(module) {}

    struct Tape {
        MatrixView<T> inputs;  // [L·B·N, d], of every block
        std::byte* states;     // those of stream b from b · (bytes of a state)
        TaskScratch block;     // where the tape of a block is recorded
    };
    template <class V>
    void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.inputs, stack_.size() * call.rows(), stack_.d_model());
        v.array(t.states, call.streams * state_bytes());
        Index largest = 0;
        for (std::size_t i = 0; i < blocks(); ++i)
            largest = std::max(largest, stack_.tape_bytes(i, call.streams, call.tokens));
        v.tasks(t.block, 1, largest);
    }
    using Scratch = typename Module::Scratch;
    template <class V>
    void visit_scratch(Scratch& s, V& v, const Call& call) const {
        stack_.visit_scratch(s, v, call);
    }
    using BackwardScratch = typename Module::BackwardScratch;
    template <class V>
    void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        stack_.visit_backward_scratch(s, v, call);
        v.within(scratch_bytes(stack_,
                               {.streams = call.streams, .tokens = call.tokens, .recorded = true}));
    }

    template <class P>
    void forward(const P& p, Streams streams, Index N, MatrixView<T> x, Form, Arena& arena,
                 const Tape& tape, LayerWatch* watch = nullptr) const noexcept {
        for (std::size_t i = 0; i < blocks(); ++i) {
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            const auto [first, end] = stack_.state_range(i);
            for (Index b = 0; b < streams.count(); ++b)
                std::copy_n(streams.bytes(b) + first, end - first,
                            tape.states + b * state_bytes() + first);
            std::copy_n(x.data(), x.rows() * x.cols(), input(tape, i, x.rows()).data());
            stack_.record(i, p, streams, N, x, arena, tape.block.of(0));
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        }
    }
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<T> dx, G& gradients, Streams dstates, Arena& arena,
                  LayerWatch* watch = nullptr) const noexcept {
        for (std::size_t i = blocks(); i-- > 0;) {
            const auto [first, end] = stack_.state_range(i);
            for (Index b = 0; b < streams.count(); ++b)
                std::copy_n(tape.states + b * state_bytes() + first, end - first,
                            streams.bytes(b) + first);
            stack_.record(i, p, streams, N, input(tape, i, dx.rows()), arena, tape.block.of(0));
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            stack_.backward(i, p, transposed, tape.block.of(0), streams, N, dx, gradients, dstates,
                            arena);
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        }
    }

private:
    std::size_t blocks() const noexcept { return static_cast<std::size_t>(stack_.size()); }
    Index state_bytes() const noexcept { return stack_.all_states().bytes; }
    static MatrixView<T> input(const Tape& tape, std::size_t i, Index rows) noexcept {
        return tape.inputs.middle_rows(static_cast<Index>(i) * rows, rows);
    }

    const Module& stack_;
};

}  // namespace HYDRALM_NAMESPACE
