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

    // Of batches of this shape. Allocates all that a batch takes.
    Evaluator(const Model& model, Index streams, Index length)
        : length_(length),
          workspace_(model.workspace_bytes(streams, length) +
                     head_loss_workspace_bytes(model, streams * length)),
          states_(model, streams) {}

    // Mean loss in nats over `batches` batches from the source's beginning; states are carried from
    // one to the next where the source says so. Leaves the source after them. On several ranks each
    // reads every so many-th batch, and all have the mean that one has. Throws Error for another
    // shape of batch, a token or label outside the vocabulary, what the source throws, and, on
    // several ranks, for states that are carried: what one of them throws all do. Allocates a
    // number a batch.
    double loss(const Model& model, BatchSource& source, std::int64_t batches,
                Ranks& ranks = one_rank()) {
        const std::int64_t R = ranks.count();
        std::vector<kernels::LossSum> losses;  // [R, the most that a rank reads]
        Index each = 0;
        ranks.on_all([&] {
            model.expect_weights();
            each = static_cast<Index>(ceil_div(std::max<std::int64_t>(batches, 0), R));
            losses.resize(static_cast<std::size_t>(R * each));
            source.seek(0);
            auto* own = losses.data() + ranks.rank() * each;
            for (std::int64_t i = ranks.rank(); i < batches; i += R) {
                if (R > 1) source.seek(static_cast<std::uint64_t>(i));
                *own++ = next_loss(model, source, R > 1);
            }
            if (R > 1) source.seek(static_cast<std::uint64_t>(batches));
        });
        ranks.share(std::as_writable_bytes(std::span(losses)),
                    ranks.equal_ends(each * Index{sizeof(kernels::LossSum)}));
        kernels::LossSum total;
        for (std::int64_t i = 0; i < batches; ++i) {
            const auto& one = losses[static_cast<std::size_t>(i % R * each + i / R)];
            total.sum += one.sum;
            total.count += one.count;
        }
        return total.mean();
    }

private:
    // Of the source's next batch, which goes on from none where ranks have other batches.
    kernels::LossSum next_loss(const Model& model, BatchSource& source, bool dealt) {
        source.next(batch_);
        if (dealt) expect_fresh(batch_);
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
