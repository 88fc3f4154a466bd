// Gradients: loss and exact gradient of a whole model over B sequences of N tokens, one buffer in
// file order.
//
// Back-propagation through a chunk of a longer text: states are carried forward, and the gradient
// of the final states may be given; that of the first states is left in its place. Logits exist for
// head_rows labelled tokens at a time. All sums have a fixed order: the same bits for any number of
// threads.
#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "hydralm/layers/full_attention_backward.hpp"
#include "hydralm/layers/gated_delta_net_backward.hpp"
#include "hydralm/layers/grouped_attention_backward.hpp"
#include "hydralm/layers/grouped_delta_net_backward.hpp"
#include "hydralm/layers/retrieval_attention_backward.hpp"
#include "hydralm/layers/sliding_window_attention_backward.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/head_padding.hpp"
#include "hydralm/model/hydra_lm.hpp"
#include "hydralm/model/recomputation.hpp"
#include "hydralm/training/batch_states.hpp"
#include "hydralm/training/mtp_gradient.hpp"

namespace HYDRALM_NAMESPACE {

// What is kept between forward and backward: all that backward reads, or the inputs of the blocks,
// from which the rest is computed again. The same bits; less memory against one more forward.
enum class Keep : std::uint8_t { everything, block_inputs };

// The gradient of one model, and the memory that computing it takes, all of it made by the
// constructor.
template <class Model>
class Gradients {
    static_assert(
        std::is_same_v<typename Model::WeightFormats, weights::Float> ||
            std::is_same_v<typename Model::WeightFormats, weights::Any>,
        "hydralm: weights: must be Float to be trained; train HydraLM<config> and load its "
        "checkpoint into a model of BF16");

public:
    using T = typename Model::Scalar;

    // streams B, tokens N: of every call of add, of this model or another of its shape. Throws
    // Error for weights of another format than the model's scalar.
    Gradients(const Model& model, Index streams, Index tokens, Keep keep = Keep::everything)
        : infos_(model.parameters.begin(), model.parameters.end()),
          streams_(streams),
          tokens_(tokens),
          keep_(keep),
          padding_(padding_of(model)),
          gradient_(model.parameter_count),
          padded_(padding_.pads() ? padded_elements() : 0),
          transposed_memory_(transposed_elements()),
          tape_memory_(tape_bytes(model, streams, tokens, keep)),
          workspace_(workspace_bytes(model, streams, tokens)),
          dstates_(model, streams) {
        (void)num_threads();  // the pool is made here, not in the first add
        for (const ParameterInfo& info : infos_)
            if (info.format != weights::Format::scalar)
                raise({.field = std::string(info.name()),
                       .expected = "weights of the model's scalar, to be trained",
                       .found = std::string(weights::name(info.format)),
                       .fix = "open the checkpoint with weights::Float"});
        BindFlat<T> flat(padding_.pads() ? padded_.data() : gradient_.data());
        model.visit(views_, flat);
        BindTransposed<T> transposed(transposed_memory_.data());
        model.visit(transposed_, transposed);
    }
    Gradients(const Gradients&) = delete;
    Gradients& operator=(const Gradients&) = delete;

    // Bytes of the tape, what backward needs of forward.
    static Index tape_bytes(const Model& model, Index B, Index N,
                            Keep keep = Keep::everything) noexcept {
        return keep == Keep::everything ? hydralm::tape_bytes(model.stack, B, N)
                                        : hydralm::tape_bytes(recomputed(model.stack), B, N);
    }
    static Index workspace_bytes(const Model& model, Index B, Index N) noexcept {
        const Index rows = B * N;
        return 3 * arena_bytes<T>(rows * model.d_model()) +
               std::max({training_scratch_bytes(recomputed(model.stack), B, N),
                         head_loss_workspace_bytes(model, rows), mtp_workspace_bytes(model, rows),
                         model.norm.backward_bytes(rows)});
    }

    // The loss of multi-token prediction in the last add: mean over modules, not weighted.
    double mtp_loss() const noexcept { return mtp_loss_; }

    // Whether the values of a layer's parameters are final as soon as the way back is through it.
    bool final_behind_layers() const noexcept { return !padding_.pads(); }

    // All parameters in file order and file layout, without gaps.
    std::span<T> values() noexcept { return gradient_.span(); }
    std::span<const T> values() const noexcept { return gradient_.span(); }
    // f(const ParameterInfo&, std::span<const T>) for every parameter, in file order.
    template <class F>
    void for_each(const F& f) const {
        std::size_t first = 0;
        for (const ParameterInfo& info : infos_) {
            f(info, values().subspan(first, static_cast<std::size_t>(info.size())));
            first += static_cast<std::size_t>(info.size());
        }
    }

    // The gradient of the states, in the layout of a state. Before add, that of the final states
    // (zero: clear_states); after it, that of the first ones.
    BatchStates<Model>& state_gradients() noexcept { return dstates_; }

    void clear() noexcept {
        std::fill_n(gradient_.data(), gradient_.size(), T(0));
        clear_states();
    }
    void clear_states() noexcept { dstates_.reset(); }

    // Takes the model's weights again: after construction and after every change of them.
    void refresh(const Model& model) {
        T* next = transposed_memory_.data();
        AlignedBuffer<T> wide(padding_.pads() ? largest_padded() : 0);
        model.get_parameters([&](const ParameterInfo& info, std::span<const T> w) {
            const ParameterInfo stored = padding_.in_memory(info);
            if (padding_.pads()) {
                padding_.widen(info, w.data(), wide.data());
                w = wide.span().first(static_cast<std::size_t>(stored.size()));
            }
            next = store_transposed<T>(stored, w, next);
        });
    }

    // Throws what add would of the same, and takes the memory that it would: behind it that add
    // does not fail.
    void prepare(const Model& model, std::span<const token_id> tokens,
                 std::span<const token_id> labels, Streams streams) {
        model.expect_weights();
        if (model.parameter_count != static_cast<Index>(gradient_.size()))
            raise({.field = "model",
                   .expected = std::to_string(gradient_.size()) + " parameters",
                   .found = std::to_string(model.parameter_count),
                   .fix = "make gradients for this model"});
        check_tokens(model, tokens, streams);
        check_labels(labels, tokens.size(), model.vocab_size());
        for (Index b = 0; b < streams_; ++b) {  // a bank's gradient has the bank's pages
            expect_exact({streams.banks(b), dstates_[b].banks().size()});
            dstates_[b].reserve(static_cast<Index>(streams.position(b)) + tokens_);
        }
    }

    // Adds the gradient of scale · Σ loss, and, with modules of multi-token prediction, of scale
    // times the number of labels times mtp_loss_weight times their loss. tokens, labels [B·N],
    // stream after stream. The streams' states advance by N tokens; positions are the caller's.
    // scale = 1 / kernels::count_labels(labels) is the mean. Returns the sum of the losses,
    // unscaled. Throws Error for a wrong count, id or label, nothing changed. No allocation, but
    // for the pages of retrieval banks and of their gradients. on_forward and on_backward, where
    // they are, are told of the layers as they are computed.
    kernels::LossSum add(const Model& model, std::span<const token_id> tokens,
                         std::span<const token_id> labels, Streams streams, double scale,
                         LayerWatch* on_forward = nullptr, LayerWatch* on_backward = nullptr);

private:
    // stack: the model's, or Recomputed.
    template <class Stack>
    kernels::LossSum add_with(const Stack& stack, const Model& model,
                              std::span<const token_id> tokens, std::span<const token_id> labels,
                              Streams streams, double scale, LayerWatch* on_forward,
                              LayerWatch* on_backward) {
        const Index rows = streams_ * tokens_, d = model.d_model();
        const auto& weights = model.weights();
        Arena kept(tape_memory_.span()), scratch(workspace_.span());
        const auto x = take_matrix<T>(scratch, rows, d);
        const auto normed = take_matrix<T>(scratch, rows, d);
        const auto dx = take_matrix<T>(scratch, rows, d);
        const typename Stack::Tape tape = take_tape(stack, kept, streams_, tokens_);
        for (Index r = 0; r < rows; ++r)
            weights.embed.copy_row(tokens[static_cast<std::size_t>(r)], x.row(r));
        stack.forward(weights.blocks, streams, tokens_, x, Form::parallel, scratch, tape,
                      on_forward);

        model.norm.forward(weights.norm_f, x, normed);
        const kernels::LossSum loss =
            head_loss_backward(model, transposed_, normed, labels, scale, dx, views_, scratch);
        if constexpr (predicts_more<Model>)  // scale · count makes sums of means
            if (model.mtp_depth > 0)
                mtp_loss_ =
                    mtp_gradient(model, transposed_, normed, tokens, labels, tokens_,
                                 scale * static_cast<double>(loss.count) * model.mtp_loss_weight,
                                 dx, views_, scratch);
        model.norm.backward(weights.norm_f, x, dx, dx, views_.norm_f, scratch);
        stack.backward(weights.blocks, transposed_.blocks, tape, streams, tokens_, dx,
                       views_.blocks, dstates_.streams(0), scratch, on_backward);
        for (Index r = 0; r < rows; ++r) {
            T* const row = views_.embed.row(tokens[static_cast<std::size_t>(r)]);
            out(d, row) += in(dx.row(r));
        }
        if (padding_.pads()) take_padded();
        return loss;
    }

    void check_tokens(const Model& model, std::span<const token_id> tokens, Streams streams) const {
        if (static_cast<Index>(tokens.size()) != streams_ * tokens_ || streams.count() != streams_)
            raise({.field = "tokens",
                   .expected = std::to_string(streams_) + " streams of " + std::to_string(tokens_),
                   .found = std::to_string(streams.count()) + " streams, " +
                            std::to_string(tokens.size()) + " tokens",
                   .fix = "give the shape the gradients were made for"});
        model.check(tokens);
    }
    static HeadPadding padding_of(const Model& model) noexcept {
        if constexpr (requires { model.padding; }) return model.padding;
        else return {};
    }
    Index transposed_elements() const noexcept {
        Index n = 0;
        for (const ParameterInfo& info : infos_) n += transposed_size<T>(padding_.in_memory(info));
        return n;
    }
    Index padded_elements() const noexcept {
        Index n = 0;
        for (const ParameterInfo& info : infos_) n += padding_.in_memory(info).size();
        return n;
    }
    Index largest_padded() const noexcept {
        Index n = 0;
        for (const ParameterInfo& info : infos_) n = std::max(n, padding_.in_memory(info).size());
        return n;
    }
    // What add left in memory's layout joins the gradient.
    void take_padded() noexcept {
        const T* from = padded_.data();
        T* to = gradient_.data();
        for (const ParameterInfo& info : infos_) {
            padding_.each_run(info, [&](Index in_file, Index in_memory, Index count) {
                for (Index i = 0; i < count; ++i) to[in_file + i] += from[in_memory + i];
            });
            from += padding_.in_memory(info).size();
            to += info.size();
        }
        std::fill_n(padded_.data(), padded_.size(), T(0));
    }

    std::vector<ParameterInfo> infos_;
    Index streams_, tokens_;
    Keep keep_;
    HeadPadding padding_;
    AlignedBuffer<T> gradient_;
    AlignedBuffer<T> padded_;  // in the layout of memory, where that is another
    AlignedBuffer<T> transposed_memory_;
    AlignedBuffer<std::byte> tape_memory_;
    AlignedBuffer<std::byte> workspace_;
    BatchStates<Model> dstates_;
    double mtp_loss_ = 0.0;
    typename Model::template Parameters<FlatStorage<T>> views_;
    typename Model::template Parameters<TransposedStorage<T>> transposed_;
};

// Outside of the class, and so not inline: see LanguageModel::forward.
template <class Model>
kernels::LossSum Gradients<Model>::add(const Model& model, std::span<const token_id> tokens,
                                       std::span<const token_id> labels, Streams streams,
                                       double scale, LayerWatch* on_forward,
                                       LayerWatch* on_backward) {
    prepare(model, tokens, labels, streams);
    if (keep_ == Keep::everything)
        return add_with(model.stack, model, tokens, labels, streams, scale, on_forward,
                        on_backward);
    return add_with(recomputed(model.stack), model, tokens, labels, streams, scale, on_forward,
                    on_backward);
}

}  // namespace HYDRALM_NAMESPACE
