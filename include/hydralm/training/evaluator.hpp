// Evaluator: the loss of a model on batches, without gradients.
#pragma once

#include <algorithm>
#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/training/batch_source.hpp"
#include "hydralm/training/batch_states.hpp"
#include "hydralm/training/head_loss.hpp"
#include "hydralm/training/ranks.hpp"

namespace HYDRALM_NAMESPACE {

template <class Model>
class Evaluator {
public:
    using T = typename Model::Scalar;

    // Of batches of this shape. Allocates all that loss uses.
    Evaluator(const Model& model, Index streams, Index length)
        : length_(length),
          workspace_(model.workspace_bytes(streams, length) +
                     head_loss_workspace_bytes(model, streams * length)),
          states_(model, streams) {}

    // Mean loss in nats over `batches` batches from the source's beginning; states are carried from
    // one to the next where the source says so. Leaves the source after them. On several ranks each
    // reads every so many-th batch, and all have the mean that one has. Throws Error for another
    // shape of batch, a token or label outside the vocabulary, what the source throws, and, on
    // several ranks, for states that are carried.
    double loss(const Model& model, BatchSource& source, std::int64_t batches,
                Ranks& ranks = one_rank()) {
        model.expect_weights();
        source.seek(0);
        kernels::LossSum total;
        for (std::int64_t i = 0; i < batches; i += ranks.count()) {
            const auto part = own_loss(model, source, i + ranks.rank(), batches, ranks.count());
            for (const auto& one : ranks.gather(part)) {  // in the order of batches
                total.sum += one.sum;
                total.count += one.count;
            }
        }
        if (ranks.count() > 1) source.seek(static_cast<std::uint64_t>(batches));
        return total.mean();
    }

private:
    // Of batch i, where there is one.
    kernels::LossSum own_loss(const Model& model, BatchSource& source, std::int64_t i,
                              std::int64_t batches, int ranks) {
        if (i >= batches) return {};
        if (ranks > 1) source.seek(static_cast<std::uint64_t>(i));
        source.next(batch_);
        if (ranks > 1) expect_fresh(batch_);
        if (batch_.streams != states_.count() || batch_.length != length_ ||
            std::ssize(batch_.tokens) != batch_.streams * batch_.length)
            raise({.field = "batch",
                   .expected =
                       std::to_string(states_.count()) + " streams of " + std::to_string(length_),
                   .found = std::to_string(batch_.streams) + " of " +
                            std::to_string(batch_.length) + ", " +
                            std::to_string(batch_.tokens.size()) + " tokens",
                   .fix = "evaluate with batches of one shape"});
        model.check(batch_.tokens);
        check_labels(batch_.labels, batch_.tokens.size(), model.vocab_size());
        if (batch_.fresh) states_.reset();
        const auto part = batch_loss(model);
        states_.advance(length_);
        return part;
    }

    kernels::LossSum batch_loss(const Model& model) {
        Arena arena(workspace_.span());
        const auto hidden = model.forward(batch_.tokens.data(), states_.streams(length_), length_,
                                          Form::parallel, arena);
        return head_loss(model, hidden, batch_.labels, arena);
    }

    Index length_;
    AlignedBuffer<std::byte> workspace_;
    BatchStates<Model> states_;
    Batch batch_;
};

}  // namespace HYDRALM_NAMESPACE
