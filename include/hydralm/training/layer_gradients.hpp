// LayerGradients: output and exact gradient of one layer by itself, for code that trains it as a
// part of something else.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "hydralm/layers/full_attention_backward.hpp"
#include "hydralm/layers/gated_delta_net_backward.hpp"
#include "hydralm/layers/grouped_attention_backward.hpp"
#include "hydralm/layers/grouped_delta_net_backward.hpp"
#include "hydralm/layers/retrieval_attention_backward.hpp"
#include "hydralm/layers/sliding_window_attention_backward.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/layers/transposed_parameters.hpp"
#include "hydralm/model/standalone.hpp"

namespace HYDRALM_NAMESPACE {

// Of B streams of N tokens a call; all memory is made by the constructor, but for the pages of
// banks. The layer outlives it.
template <class Mixer>
class LayerGradients {
    static_assert(trainable<Mixer>,
                  "hydralm: module: must have a tape to be trained; write Tape, visit_tape and "
                  "backward as layers/module.hpp says");

public:
    using T = typename Mixer::Scalar;

    explicit LayerGradients(const Standalone<Mixer>&& layer, Index, Index) = delete;
    LayerGradients(const Standalone<Mixer>& layer, Index streams, Index tokens)
        : layer_(layer),
          streams_(streams),
          tokens_(tokens),
          gradient_(layer.parameter_count()),
          transposed_memory_(transposed_elements()),
          tape_memory_(tape_bytes(mixer(), streams, tokens)),
          workspace_(training_scratch_bytes(mixer(), streams, tokens)),
          states_(static_cast<std::size_t>(streams), layer.new_memory()),
          dstates_(states_) {
        BindFlat<T> flat(gradient_.data());
        mixer().visit(views_, flat);
        BindTransposed<T> transposed(transposed_memory_.data());
        mixer().visit(transposed_, transposed);
        Arena arena(tape_memory_.span());
        tape_ = take_tape(mixer(), arena, streams, tokens);
        refresh();
    }
    LayerGradients(const LayerGradients&) = delete;
    LayerGradients& operator=(const LayerGradients&) = delete;

    // Takes the layer's weights again: after every change of them.
    void refresh() {
        T* next = transposed_memory_.data();
        layer_.get_parameters([&](const ParameterInfo& info, std::span<const T> w) {
            next = store_transposed<T>(info, w, next);
        });
    }

    // y = layer(x) of the next N tokens of every stream, stream after stream, x and y [B·N, d];
    // recorded for backward. Throws Error for states whose banks round or drop the past, or pass
    // over some of it.
    void forward(MatrixView<const T> x, MatrixView<T> y) {
        for (StreamMemory& state : states_) {
            expect_exact(state.banks());
            state.reserve(tokens_);
        }
        const auto streams = views(states_);
        Arena arena(workspace_.span());
        mixer().forward(layer_.weights(), {streams.data(), streams_}, tokens_, x, y, Form::parallel,
                        Write::assign, arena, tape_);
    }
    // Once behind forward, with its x and the gradient of its y: adds to values(), writes dx. The
    // gradient of the final states is what state_gradients() hold; they then hold that of the
    // first.
    void backward(MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx) {
        for (std::size_t b = 0; b < states_.size(); ++b)
            dstates_[b].reserve(static_cast<Index>(states_[b].position()) + tokens_);
        const auto streams = views(states_), dstreams = views(dstates_);
        Arena arena(workspace_.span());
        mixer().backward(layer_.weights(), transposed_, tape_, {streams.data(), streams_}, tokens_,
                         x, dy, dx, views_, {dstreams.data(), streams_}, arena);
        for (StreamMemory& state : states_) state.advance(tokens_);
    }

    // All parameters in file order and file layout, without gaps.
    std::span<T> values() noexcept { return gradient_.span(); }
    std::span<const T> values() const noexcept { return gradient_.span(); }
    void clear() noexcept {
        std::fill_n(gradient_.data(), gradient_.size(), T(0));
        for (StreamMemory& state : dstates_) state.reset();
    }
    std::span<StreamMemory> states() noexcept { return states_; }
    std::span<StreamMemory> state_gradients() noexcept { return dstates_; }

private:
    const Mixer& mixer() const noexcept { return layer_.mixer(); }
    static std::vector<Stream> views(std::vector<StreamMemory>& memory) {
        std::vector<Stream> streams;
        streams.reserve(memory.size());
        for (StreamMemory& one : memory) streams.push_back(one.stream());
        return streams;
    }
    Index transposed_elements() const {
        Index n = 0;
        describe_parameters(mixer(),
                            [&](const ParameterInfo& info) { n += transposed_size<T>(info); });
        return n;
    }

    const Standalone<Mixer>& layer_;
    Index streams_, tokens_;
    AlignedBuffer<T> gradient_, transposed_memory_;
    AlignedBuffer<std::byte> tape_memory_, workspace_;
    std::vector<StreamMemory> states_, dstates_;
    typename Mixer::template Parameters<FlatStorage<T>> views_{};
    typename Mixer::template Parameters<TransposedStorage<T>> transposed_{};
    typename Mixer::Tape tape_{};
};

}  // namespace HYDRALM_NAMESPACE
