// BatchDecoder: independent streams that share one read of the weights per step.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// Steps B streams of one model together. A stream's logits have the bits it would get alone,
// whatever its neighbours. The model must outlive the decoder. All memory but the pages of banks is
// taken by the constructor, which throws Error for fewer than one stream and for a policy that
// cannot be.
template <class Model>
class BatchDecoder {
public:
    using T = typename Model::Scalar;
    using State = typename Model::State;

    BatchDecoder(const Model&& model, Index streams, const BankPolicy& policy = {}) = delete;
    // policy: how the streams keep the past; a state that replaces a stream's brings its own.
    BatchDecoder(const Model& model, Index streams, const BankPolicy& policy = {})
        : model_(model),
          states_(checked(streams), model.new_state(1, policy)),
          views_(static_cast<std::size_t>(streams)),
          workspace_(model_.workspace_bytes(streams, 1, Form::recurrent)),
          logits_(streams * model_.vocab_size()) {}

    Index streams() const noexcept { return static_cast<Index>(states_.size()); }

    // The state of stream b: prefill a prompt into it, copy it, replace it by a snapshot.
    State& state(Index b) noexcept { return states_[static_cast<std::size_t>(b)]; }
    const State& state(Index b) const noexcept { return states_[static_cast<std::size_t>(b)]; }

    // Feeds tokens [B], one to each stream; returns logits [B, V], valid until the next step.
    // Throws Error for a wrong count, an id outside [0, V) or a moved-from state, and what
    // Model::prefill throws where pages of banks run out, no stream fed. No allocation but for
    // pages. Cost: one read of the weights.
    MatrixView<const T> step(std::span<const token_id> tokens) {
        if (static_cast<Index>(tokens.size()) != streams())
            raise({.field = "tokens",
                   .expected = std::to_string(streams()) + " ids, one per stream",
                   .found = std::to_string(tokens.size()),
                   .fix = "give every stream a token"});
        model_.expect_weights();
        model_.check(tokens);
        for (const State& state : states_) state.expect_bytes(model_.state_bytes);
        for (State& state : states_) state.reserve(1);
        for (std::size_t b = 0; b < states_.size(); ++b) views_[b] = states_[b].stream();
        Arena arena(workspace_.span());
        const auto hidden = model_.forward(tokens.data(), Streams(views_.data(), streams()), 1,
                                           Form::recurrent, arena);
        const MatrixView<T> logits(logits_.data(), streams(), model_.vocab_size());
        model_.head(hidden, logits);
        for (State& state : states_) state.advance(1);
        return logits;
    }

private:
    static std::size_t checked(Index streams) {
        if (streams < 1)
            raise({.field = "streams",
                   .expected = "at least 1",
                   .found = std::to_string(streams),
                   .fix = "decode at least one stream"});
        return static_cast<std::size_t>(streams);
    }

    const Model& model_;
    std::vector<State> states_;
    std::vector<Stream> views_;
    AlignedBuffer<std::byte> workspace_;
    AlignedBuffer<T> logits_;
};

}  // namespace HYDRALM_NAMESPACE
