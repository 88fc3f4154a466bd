// BatchGradient: the gradient of one batch of training, on this process alone or with its texts cut
// over ranks.
#pragma once

#include <memory>

#include "hydralm/training/batch_source.hpp"
#include "hydralm/training/gradients_over_ranks.hpp"

namespace HYDRALM_NAMESPACE {

// Gradients, or GradientsOverRanks, for the shape of the last batch. The ranks outlive it.
template <class Model>
class BatchGradient {
public:
    using T = typename Model::Scalar;

    // cut: whether each rank has a run of the tokens of every text. Allocates nothing.
    BatchGradient(Ranks& ranks, bool cut, Keep keep)
        : ranks_(ranks), cut_(cut && ranks.count() > 1), keep_(keep) {}

    bool cuts() const noexcept { return cut_; }
    // Whether a LayerWatch that add is given finds the gradient of layers behind it final.
    bool final_behind_layers() const noexcept { return !cut_ && whole_->final_behind_layers(); }

    // A gradient of zeros, and memory for the batch and its streams, made anew where its shape is
    // another. Throws as the constructors of both do. Of texts that are cut, all ranks call it, it
    // tells each of the others' shape (some 50 bytes), and throws the same Error on every rank,
    // also for shapes that differ. Of other batches it throws what Gradients::add would, and asks
    // nothing of other ranks: so behind it add does not fail.
    void begin(const Model& model, const Batch& batch, BatchStates<Model>& states) {
        if (cut_)
            detail::expect_same(ranks_, {{"batch, texts", batch.streams},
                                         {"batch, tokens of a text", batch.length}});
        if ((!whole_ && !runs_) || batch.streams != streams_ || batch.length != length_) {
            whole_.reset();  // one tape at a time
            runs_.reset();
            length_ = 0;  // of no batch, until all is made
            if (cut_)
                runs_ = std::make_unique<GradientsOverRanks<Model>>(model, batch.streams,
                                                                    batch.length, ranks_, keep_);
            else
                whole_ =
                    std::make_unique<Gradients<Model>>(model, batch.streams, batch.length, keep_);
            if (cut_) ranks_.on_all([&] { refresh(model); });
            else refresh(model);
            streams_ = batch.streams;
            length_ = batch.length;
        }
        if (cut_) return runs_->clear();
        whole_->clear();
        whole_->prepare(model, batch.tokens, batch.labels, states.streams(length_));
    }
    // Takes the model's weights again, after every change of them.
    void refresh(const Model& model) {
        if (runs_) runs_->refresh(model);
        if (whole_) whole_->refresh(model);
    }

    // Behind begin, of the same: adds the gradient of scale · Σ loss of the batch, and advances its
    // streams; of texts that are cut, this rank's part of it, and no stream goes on. Returns the
    // sum of all losses, unscaled. Throws Error as GradientsOverRanks::add does.
    kernels::LossSum add(const Model& model, const Batch& batch, BatchStates<Model>& states,
                         double scale, LayerWatch* on_backward) {
        if (cut_) {
            const auto loss = runs_->add(model, batch.tokens, batch.labels, states, scale);
            states.reset();  // each rank's is of its own run
            return loss;
        }
        const auto loss = whole_->add(model, batch.tokens, batch.labels, states.streams(length_),
                                      scale, nullptr, on_backward);
        states.advance(length_);
        return loss;
    }

    // Of all parameters in file order; behind begin.
    std::span<T> values() noexcept { return cut_ ? runs_->values() : whole_->values(); }

private:
    Ranks& ranks_;
    bool cut_;
    Keep keep_;
    Index streams_ = 0, length_ = 0;
    std::unique_ptr<Gradients<Model>> whole_;
    std::unique_ptr<GradientsOverRanks<Model>> runs_;
};

}  // namespace HYDRALM_NAMESPACE
