// Drafts: who guesses the tokens that speculative decoding checks.
//
// A draft has
//   vocab_size          that of the target, V
//   reset()             a new stream begins: forget the one before; throws nothing
//   begin(fed, hidden)  a round begins: the target has been fed these tokens since the last call,
//                       or none; hidden [1, d] is its output after the final norm for the last
//                       token fed ever. What it throws leaves the draft as it was: the tokens are
//                       told again
//   next(token)         logits [V] of what follows, were token fed next; valid until the next call
// and, where it has both, for what it must know of every token:
//   reserve(n)          makes memory to follow n tokens, before the target is fed any of them; what
//                       it throws leaves the draft as it was
//   follow(tokens, hidden)  the target was fed these tokens; hidden [n, d] is its output after the
//                       final norm for each; throws nothing
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// Whether a draft is told of every token.
template <class Draft, class T>
concept FollowsTokens =
    requires(Draft& draft, std::span<const token_id> tokens, Index n, MatrixView<const T> hidden) {
        draft.reserve(n);
        { draft.follow(tokens, hidden) } noexcept;
    };

// The model's own modules of multi-token prediction, one after the other; beyond mtp_depth, the
// last again. Begins from the hidden state after the final norm, as in training.
template <class Model>
class MtpDraft {
    static_assert(
        predicts_more<Model>,
        "hydralm: mtp_depth: must be above 0 to draft with; train a model with mtp_depth = "
        "1 or more, or draft with another model");

public:
    using T = typename Model::Scalar;
    static constexpr Index vocab_size() noexcept
        requires StaticShape<Model>
    {
        return Model::vocab_size();
    }
    Index vocab_size() const noexcept
        requires(!StaticShape<Model>)
    {
        return model_.vocab_size();
    }

    explicit MtpDraft(const Model&& model) = delete;
    // Throws Error for a run-time model without such modules.
    explicit MtpDraft(const Model& model)
        : model_(model),
          workspace_(scratch_bytes(model.mtp_module, {.form = Form::recurrent})),
          rows_(4 * model.d_model()),
          logits_(model.vocab_size()) {
        if (model.mtp_depth == 0)
            raise({.field = "mtp_depth",
                   .expected = "1 or more, to draft with",
                   .found = "0",
                   .fix = "train a model with mtp_depth, or draft with another model"});
    }

    void reset() noexcept {}
    void begin(std::span<const token_id>, MatrixView<const T> hidden) {
        model_.expect_weights();
        std::copy_n(hidden.data(), model_.d_model(), row(0).data());
        module_ = 0;
    }
    std::span<const T> next(token_id token) noexcept {
        const auto& p = model_.weights();
        Arena arena(workspace_.span());
        p.embed.copy_row(token, row(1).data());
        model_.mtp_module.forward(p.mtp[module_], row(0), row(1), row(2), arena);
        std::copy_n(row(2).data(), model_.d_model(), row(0).data());
        model_.norm.forward(p.norm_f, row(2), row(3));
        model_.head(row(3), {logits_.data(), 1, model_.vocab_size()});
        module_ = std::min(module_ + 1, p.mtp.size() - 1);
        return logits_.span();
    }

private:
    MatrixView<T> row(Index i) noexcept {
        const Index d = model_.d_model();
        return {rows_.data() + i * d, 1, d};
    }

    const Model& model_;
    AlignedBuffer<std::byte> workspace_;
    AlignedBuffer<T> rows_;  // hidden, embedding, output, normed output
    AlignedBuffer<T> logits_;
    std::size_t module_ = 0;
};

// Another model with the same vocabulary. Tokens that were guessed wrongly are taken back by going
// back to the state of the last begin; those that were right are fed again, together.
template <class Model>
class ModelDraft {
public:
    using T = typename Model::Scalar;
    static constexpr Index vocab_size() noexcept
        requires StaticShape<Model>
    {
        return Model::vocab_size();
    }
    Index vocab_size() const noexcept
        requires(!StaticShape<Model>)
    {
        return model_.vocab_size();
    }

    explicit ModelDraft(const Model&& model, const BankPolicy& policy = {},
                        Index tile = 0) = delete;
    // policy and tile: of the draft's own states, as in Model::new_state; they are two, which share
    // pages. Throws Error as it does.
    explicit ModelDraft(const Model& model, const BankPolicy& policy = {},
                        Index tile = Model::prefill_tile)
        : model_(model), known_(model.new_state(tile, policy)), guessed_(known_) {}

    void reset() noexcept {
        known_.reset();
        guessed_.reset();
        guessing_ = false;
    }
    void begin(std::span<const token_id> fed, MatrixView<const T>) {
        if (!fed.empty())
            model_.prefill(fed, known_, fed.size() > 16 ? Form::parallel : Form::recurrent);
        guessing_ = false;
    }
    std::span<const T> next(token_id token) {
        if (!guessing_) guessed_ = known_;
        guessing_ = true;
        return model_.step(token, guessed_);
    }

private:
    const Model& model_;
    typename Model::State known_, guessed_;
    bool guessing_ = false;  // guessed_ goes on from known_
};

}  // namespace HYDRALM_NAMESPACE
