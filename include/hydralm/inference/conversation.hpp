// Conversation: one text that goes on, turn by turn, without being read again from its beginning.
#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// The whole dialogue is given at every turn, and what it has in common with the one before is not
// computed again: reading goes on at the last multiple of Model::prefill_tile that both have in
// common and whose state is kept. So the logits have the bits of a prefill of the whole dialogue,
// however it came about, and a turn costs at most a tile more than its new tokens; answers, which
// are decoded token by token, are among those. A state is kept for every turn, at its last tile;
// pages of keys and values are shared by all that are kept.
// The model must outlive the conversation. One thread at a time.
template <class Model>
class Conversation {
public:
    using T = typename Model::Scalar;
    using State = typename Model::State;

    explicit Conversation(const Model&& model, const BankPolicy& policy = {},
                          std::size_t most_marks = 8) = delete;
    // most_marks: how many states are kept; of more turns the oldest is forgotten. Throws Error for
    // a policy that cannot be.
    explicit Conversation(const Model& model, const BankPolicy& policy = {},
                          std::size_t most_marks = 8)
        : model_(model),
          most_marks_(most_marks),
          state_(model.new_state(Model::prefill_tile, policy)) {}

    // state() = that after dialogue, and returns the logits after its last token, as Model::prefill
    // does. Throws as that does, the conversation unchanged, but where memory runs out: then the
    // next reading begins anew.
    std::span<const T> read(std::span<const token_id> dialogue) {
        Model::expect_some(dialogue);
        model_.check(dialogue);
        // The last token is always fed: its logits are not kept.
        const auto common = static_cast<std::size_t>(
            std::mismatch(known_.begin(), known_.end(), dialogue.begin(), dialogue.end() - 1)
                .first -
            known_.begin());
        while (!marks_.empty() && marks_.back().position() > static_cast<std::int64_t>(common))
            marks_.pop_back();
        known_.clear();
        if (marks_.empty()) state_.reset();
        else static_cast<StreamMemory&>(state_) = marks_.back();
        resumed_ = state_.position();
        const auto begin = static_cast<std::size_t>(resumed_);
        const std::size_t whole = (dialogue.size() - 1) / tile * tile;
        if (whole > begin) {
            model_.prefill(dialogue.subspan(begin, whole - begin), state_);
            if (most_marks_ > 0 && marks_.size() == most_marks_) marks_.erase(marks_.begin());
            if (most_marks_ > 0) marks_.push_back(state_);
        }
        const auto logits = model_.prefill(dialogue.subspan(std::max(whole, begin)), state_);
        known_.assign(dialogue.begin(), dialogue.end());
        return logits;
    }

    // Where the next token goes; what is fed to it is forgotten by the next read.
    State& state() noexcept { return state_; }
    // Tokens of the last dialogue that were not computed again.
    std::int64_t resumed() const noexcept { return resumed_; }
    // Forgets everything.
    void reset() noexcept {
        known_.clear();
        marks_.clear();
        state_.reset();
        resumed_ = 0;
    }

private:
    static constexpr auto tile = static_cast<std::size_t>(Model::prefill_tile);

    const Model& model_;
    std::size_t most_marks_;
    State state_;
    std::vector<StreamMemory> marks_;  // at multiples of a tile, of prefixes of known_
    std::vector<token_id> known_;      // what was read
    std::int64_t resumed_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
