// Evaluator: the loss of a model on batches, without gradients.
#pragma once

#include <algorithm>
#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"
#include "hydralm/model/hydra_lm.hpp"
#include "hydralm/training/batch_source.hpp"
#include "hydralm/training/batch_states.hpp"

namespace HYDRALM_NAMESPACE {

template <class Model>
class Evaluator {
public:
    using T = typename Model::Scalar;
    static constexpr Index head_rows = 256;  // tokens whose logits exist at a time

    // Of batches of this shape. Allocates all that loss uses.
    Evaluator(Index streams, Index length)
        : length_(length),
          workspace_(
              Model::workspace_bytes(streams, length) +
              arena_bytes<T>(std::min(streams * length, head_rows) * Model::config.vocab_size)),
          losses_(std::min(streams * length, head_rows)),
          states_(streams) {}

    // Mean loss in nats over `batches` batches from the source's beginning; states are carried from
    // one to the next where the source says so. Leaves the source after them. Throws Error for
    // another shape of batch and what the source throws.
    double loss(const Model& model, BatchSource& source, std::int64_t batches) {
        source.seek(0);
        kernels::LossSum total;
        for (std::int64_t i = 0; i < batches; ++i) {
            source.next(batch_);
            if (batch_.streams != states_.count() || batch_.length != length_)
                throw Error({.field = "batch",
                             .expected = std::to_string(states_.count()) + " streams of " +
                                         std::to_string(length_),
                             .found = std::to_string(batch_.streams) + " of " +
                                      std::to_string(batch_.length),
                             .fix = "evaluate with batches of one shape"});
            Model::check(batch_.tokens);
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
        const Index most = std::min(hidden.rows(), head_rows);
        const MatrixView<T> buffer(arena.take<T>(most * Model::config.vocab_size), most,
                                   Model::config.vocab_size);
        kernels::LossSum total;
        for (Index first = 0; first < hidden.rows(); first += most) {
            const Index count = std::min(most, hidden.rows() - first);
            const auto logits = buffer.middle_rows(0, count);
            model.head(hidden.middle_rows(first, count), logits);
            const auto part = kernels::cross_entropy<T>(
                logits,
                std::span<const token_id>(batch_.labels)
                    .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
                losses_.span().first(static_cast<std::size_t>(count)));
            total.sum += part.sum;
            total.count += part.count;
        }
        return total;
    }

    Index length_;
    AlignedBuffer<std::byte> workspace_;
    AlignedBuffer<double> losses_;
    BatchStates<Model> states_;
    Batch batch_;
};

}  // namespace HYDRALM_NAMESPACE
