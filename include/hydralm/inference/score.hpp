// Score: the log-likelihood of a text under a model, tile by tile, in constant memory.
#pragma once

#include <optional>
#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// Feeds text in pieces of any length and sums ln p(token | all before it). The first token of a
// stream has no prediction and counts nothing. The model must outlive the scorer. Memory: logits of
// one tile, taken by the constructor.
template <class Model>
class Scorer {
public:
    using T = typename Model::Scalar;

    explicit Scorer(const Model&& model) = delete;
    explicit Scorer(const Model& model)
        : model_(model),
          logits_(Model::prefill_tile * model_.vocab_size()),
          last_(model_.vocab_size()) {}

    // Advances state by tokens [N] and adds their log-likelihood. Throws Error as Model::prefill
    // does. No allocation but for pages of banks.
    void feed(std::span<const token_id> tokens, typename Model::State& state) {
        model_.run(
            tokens, state, Form::parallel, [&](MatrixView<const T> hidden, std::size_t first) {
                const MatrixView<T> logits(logits_.data(), hidden.rows(), model_.vocab_size());
                model_.head(hidden, logits);
                if (has_last_) add(last_.data(), tokens[first]);
                for (Index i = 0; i + 1 < hidden.rows(); ++i)
                    add(logits.row(i), tokens[first + static_cast<std::size_t>(i) + 1]);
                std::copy_n(logits.row(hidden.rows() - 1), model_.vocab_size(), last_.data());
                has_last_ = true;
            });
    }

    // Predictions counted so far and the sum of their log-likelihoods in nats.
    std::int64_t predictions() const noexcept { return predictions_; }
    double log_likelihood() const noexcept { return log_likelihood_; }
    // Mean −log₂ p per prediction: bits per byte when tokens are bytes.
    double bits_per_token() const noexcept {
        return predictions_ == 0
                   ? 0.0
                   : -log_likelihood_ / (static_cast<double>(predictions_) * 0.6931471805599453);
    }
    // Forgets the sums, keeps what the stream predicts next.
    void clear_sums() noexcept {
        predictions_ = 0;
        log_likelihood_ = 0.0;
    }

private:
    void add(const T* row, token_id label) noexcept {
        log_likelihood_ += static_cast<double>(kernels::log_likelihood(
            std::span<const T>(row, static_cast<std::size_t>(model_.vocab_size())), label));
        ++predictions_;
    }

    const Model& model_;
    AlignedBuffer<T> logits_;  // [prefill_tile, V]
    AlignedBuffer<T> last_;    // logits after the last token fed
    bool has_last_ = false;
    std::int64_t predictions_ = 0;
    double log_likelihood_ = 0.0;
};

}  // namespace HYDRALM_NAMESPACE
