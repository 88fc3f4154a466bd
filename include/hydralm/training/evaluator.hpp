// Evaluator: the loss of a model on batches, without gradients.
#pragma once

#include <algorithm>
#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/training/batch_source.hpp"
#include "hydralm/training/batch_states.hpp"
#include "hydralm/training/head_loss.hpp"

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
    // one to the next where the source says so. Leaves the source after them. Throws Error for
    // another shape of batch, a token or label outside the vocabulary, and what the source throws.
    double loss(const Model& model, BatchSource& source, std::int64_t batches) {
        model.expect_weights();
        source.seek(0);
        kernels::LossSum total;
        for (std::int64_t i = 0; i < batches; ++i) {
            source.next(batch_);
            if (batch_.streams != states_.count() || batch_.length != length_ ||
                std::ssize(batch_.tokens) != batch_.streams * batch_.length)
                raise({.field = "batch",
                       .expected = std::to_string(states_.count()) + " streams of " +
                                   std::to_string(length_),
                       .found = std::to_string(batch_.streams) + " of " +
                                std::to_string(batch_.length) + ", " +
                                std::to_string(batch_.tokens.size()) + " tokens",
                       .fix = "evaluate with batches of one shape"});
            model.check(batch_.tokens);
            check_labels(batch_.labels, batch_.tokens.size(), model.vocab_size());
            if (batch_.fresh) states_.reset();
            const auto part = batch_loss(model);
            states_.advance(length_);
            total.sum += part.sum;
            total.count += part.count;
        }
        return total.mean();
    }

private:
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
