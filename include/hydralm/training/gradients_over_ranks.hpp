// GradientsOverRanks: loss and exact gradient of texts that are cut over ranks, each of which
// computes a run of their tokens.
//
// A rank has the tape of its run alone. What streams carry from run to run, and the gradient of
// that back, goes through StatePass: so a layer of any kind that can be trained can be cut, at any
// token, and of the delta rule a rank sends D² numbers a head and layer, each way. Agrees with
// Gradients on one rank to rounding: within 1e-10 (double) and 1e-3 (float) of the largest value of
// a gradient, where retrieval selects the same chunks.
#pragma once

#include <memory>

#include "hydralm/training/gradients.hpp"
#include "hydralm/training/parameter_share.hpp"
#include "hydralm/training/same_ranks.hpp"
#include "hydralm/training/state_pass.hpp"
#include "hydralm/training/weights_crc.hpp"

namespace HYDRALM_NAMESPACE {

// Every rank makes the same calls. The ranks outlive it.
template <class Model>
class GradientsOverRanks {
public:
    using T = typename Model::Scalar;

    // Of B streams of N tokens, of which rank r of R has those from N r / R on. Memory: that of
    // Gradients for its run, and twice what passes of a layer at once. Throws
    // Error, the same on every rank, as Gradients does, for fewer tokens than ranks, for modules of
    // multi-token prediction, and for ranks that differ in program, weights or arguments.
    GradientsOverRanks(const Model& model, Index streams, Index tokens, Ranks& ranks,
                       Keep keep = Keep::everything)
        : ranks_(ranks), streams_(streams), tokens_(tokens) {
        detail::expect_same(ranks, [&] {
            return detail::Json{{"program", detail::program_facts()},
                                {"weights, CRC-32", weights_crc(model)},
                                {"shape of states", model.shape_of_states()},
                                {"streams", streams},
                                {"tokens", tokens},
                                {"keep", static_cast<int>(keep)}};
        });
        ranks.on_all([&] {
            if (tokens < ranks.count())
                raise({.field = "text",
                       .expected = "at least a token for each of " + std::to_string(ranks.count()) +
                                   " ranks",
                       .found = std::to_string(tokens),
                       .fix = "start fewer ranks"});
            if constexpr (predicts_more<Model>)
                if (model.mtp_depth > 0 && ranks.count() > 1)
                    raise({.field = "mtp_depth",
                           .expected = "0, for texts that are cut over ranks",
                           .found = std::to_string(model.mtp_depth),
                           .fix = "deal out batches instead, or use one rank"});
            model.stack.each_layer(model.weights().blocks,
                                   [&](const auto& block, const auto&, const StateExtent& place) {
                                       layers_.push_back({place, block.state_extent()});
                                   });
            own_ = std::make_unique<Gradients<Model>>(model, streams, size(), keep);
        });
    }

    // The run of this rank: tokens [first, first + size) of every stream.
    Index first() const noexcept { return tokens_ * ranks_.rank() / ranks_.count(); }
    Index size() const noexcept { return tokens_ * (ranks_.rank() + 1) / ranks_.count() - first(); }

    // As those of Gradients. values: of this rank's runs, until sum_over_ranks.
    std::span<T> values() noexcept { return own_->values(); }
    std::span<const T> values() const noexcept { return own_->values(); }
    template <class F>
    void for_each(const F& f) const {
        own_->for_each(f);
    }
    double mtp_loss() const noexcept { return own_->mtp_loss(); }
    void clear() noexcept { own_->clear(); }
    void clear_states() noexcept { own_->clear_states(); }
    void refresh(const Model& model) { own_->refresh(model); }
    // Before add, on the last rank: the gradient of the final states. After it, on rank 0: that of
    // the first ones.
    BatchStates<Model>& state_gradients() noexcept { return own_->state_gradients(); }

    // Adds this rank's part of the gradient of scale · Σ loss. tokens, labels [B·N], stream after
    // stream: the whole of them, given to every rank. states, one of B streams on every rank: those
    // of rank 0 are gone on from; after it each rank has those behind its run, the last rank those
    // behind the text. Returns the sum of the losses of all ranks, unscaled. Throws Error, the same
    // on every rank, as Gradients::add does and for weights, tokens, labels or a scale that differ,
    // nothing changed but, for want of memory, the states behind rank 0's. Beside the computation:
    // the CRC-32 of all weights.
    kernels::LossSum add(const Model& model, std::span<const token_id> tokens,
                         std::span<const token_id> labels, BatchStates<Model>& states,
                         double scale) {
        const std::int64_t begin = ranks_.gather(states.position()).front() + first(),
                           end = begin + size();
        const bool is_first = ranks_.rank() == 0, is_last = ranks_.rank() + 1 == ranks_.count();
        std::unique_ptr<StatePass> forward, backward;
        std::vector<token_id> own_tokens, own_labels;
        detail::expect_same(ranks_, [&] {
            if (std::ssize(tokens) != streams_ * tokens_ || states.count() != streams_)
                raise({.field = "tokens",
                       .expected =
                           std::to_string(streams_) + " streams of " + std::to_string(tokens_),
                       .found = std::to_string(states.count()) + " streams, " +
                                std::to_string(tokens.size()) + " tokens",
                       .fix = "give the shape the gradients were made for"});
            model.check(tokens);
            check_labels(labels, tokens.size(), model.vocab_size());
            for (Index b = 0; b < streams_; ++b) expect_exact(states[b].banks());
            own_tokens = run_of(tokens);
            own_labels = run_of(labels);
            return detail::Json{{"weights, CRC-32", weights_crc(model)},
                                {"tokens, CRC-32", crc32(std::as_bytes(tokens))},
                                {"labels, CRC-32", crc32(std::as_bytes(labels))},
                                {"scale", scale}};
        });
        if (!is_first) {
            states.reset();
            states.advance(begin);
        }
        if (!is_last) own_->clear_states();
        ranks_.on_all([&] {
            const Streams streams = states.streams(size());
            for (Index b = 0; b < streams_; ++b) state_gradients()[b].reserve(end);
            const auto pass = [&](StatePass::Way way, Streams carried) {
                return std::make_unique<StatePass>(ranks_, way, layers_, carried, begin, end);
            };
            forward = pass(StatePass::Way::forward, streams);
            backward = pass(StatePass::Way::backward, state_gradients().streams(0));
        });
        const kernels::LossSum own =
            own_->add(model, own_tokens, own_labels, states.streams(size()), scale, forward.get(),
                      backward.get());
        states.advance(size());
        kernels::LossSum all;
        for (const kernels::LossSum& part : ranks_.gather(own)) {
            all.sum += part.sum;
            all.count += part.count;
        }
        return all;
    }

    // Behind the last add: the gradient becomes that of all ranks, on each of them, to the same
    // bits. The first call allocates one more gradient; Error, on every rank, for want of it.
    void sum_over_ranks() {
        if (!share_) {
            std::unique_ptr<ParameterShare<T>> made;  // kept when every rank has its own
            ranks_.on_all([&] {
                made =
                    std::make_unique<ParameterShare<T>>(ranks_, equal_shares(std::ssize(values())));
            });
            share_ = std::move(made);
        }
        share_->sum(values());
        share_->publish(values());
    }

private:
    std::vector<Index> equal_shares(Index parameters) const {
        std::vector<Index> ends;
        for (Index r = 1; r <= ranks_.count(); ++r) ends.push_back(parameters * r / ranks_.count());
        return ends;
    }
    // The rank's part of [B·N].
    std::vector<token_id> run_of(std::span<const token_id> all) const {
        std::vector<token_id> run;
        for (Index b = 0; b < streams_; ++b) {
            const auto part = all.subspan(static_cast<std::size_t>(b * tokens_ + first()),
                                          static_cast<std::size_t>(size()));
            run.insert(run.end(), part.begin(), part.end());
        }
        return run;
    }

    Ranks& ranks_;
    Index streams_, tokens_;
    std::vector<LayerState> layers_;
    std::unique_ptr<Gradients<Model>> own_;  // of the rank's run
    std::unique_ptr<ParameterShare<T>> share_;
};

}  // namespace HYDRALM_NAMESPACE
