// PrefixCache: the states of texts already read, by prefix, so that a prompt that begins like an
// earlier one begins where that one was.
#pragma once

#include <algorithm>
#include <list>
#include <span>
#include <vector>

#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

struct PrefixCacheStatistics {
    std::int64_t prompts = 0;
    std::int64_t tokens = 0;   // of all prompts
    std::int64_t resumed = 0;  // of them, not computed again
};

// Keeps states of one model at multiples of `stride` tokens of every prompt, and at its end, within
// a budget of bytes (of two states and more); those used least recently leave first. A stride that
// is a multiple of Model::prefill_tile gives the bits of a prefill without cache, but where a
// prompt goes on from the end of an earlier one: that is done within a stride only, and agrees to
// rounding, as other strides do everywhere. The model must outlive the cache. One thread at a time.
template <class Model>
class PrefixCache {
public:
    using T = typename Model::Scalar;
    using State = typename Model::State;

    explicit PrefixCache(const Model&& model, Index budget, Index stride = 0) = delete;
    // budget: bytes of states and tokens. Throws Error for one that holds no state, or a stride
    // below 1.
    explicit PrefixCache(const Model& model, Index budget, Index stride = Model::prefill_tile)
        : model_(model), budget_(budget), stride_(stride) {
        const Index least = model.new_memory().size() + static_cast<Index>(sizeof(Entry));
        if (budget < least)
            raise({.field = "budget",
                   .expected = "at least " + std::to_string(least) + " bytes, one state",
                   .found = std::to_string(budget),
                   .fix = "give the cache a larger budget"});
        if (stride < 1)
            raise({.field = "stride",
                   .expected = "at least 1",
                   .found = std::to_string(stride),
                   .fix = "keep a state every prefill_tile tokens"});
    }

    // state = that after prompt, begun anew or at the longest prefix that is kept of a state with
    // the same bank policy; returns the logits after the last token, as Model::prefill does. Throws
    // Error for tokens that are none and for a moved-from state, state and entries unchanged, and
    // as it does when memory runs out: then state is after the first position() tokens of prompt.
    // Allocates the states that are kept.
    std::span<const T> prefill(std::span<const token_id> prompt, State& state) {
        Model::expect_some(prompt);
        model_.check(prompt);
        state.expect_bytes(model_.state_bytes);
        ++statistics_.prompts;
        statistics_.tokens += static_cast<std::int64_t>(prompt.size());
        // The last token is always fed: its logits are not kept.
        const auto best = longest(prompt, state);
        state.reset();
        if (best != entries_.end()) {
            entries_.splice(entries_.begin(), entries_, best);  // used most recently
            static_cast<StreamMemory&>(state) = best->memory;
            statistics_.resumed += state.position();
        }
        std::span<const T> logits;
        while (state.position() < static_cast<std::int64_t>(prompt.size())) {
            const auto at = static_cast<std::size_t>(state.position());
            const std::size_t step =
                static_cast<std::size_t>(stride_) - at % static_cast<std::size_t>(stride_);
            logits = model_.prefill(prompt.subspan(at, std::min(step, prompt.size() - at)), state);
            keep(prompt.first(static_cast<std::size_t>(state.position())), state);
        }
        return logits;
    }

    const PrefixCacheStatistics& statistics() const noexcept { return statistics_; }
    // States kept, and the bytes they are counted with: pages that banks share are counted in each.
    std::size_t size() const noexcept { return entries_.size(); }
    Index bytes() const noexcept { return bytes_; }
    void clear() noexcept {
        entries_.clear();
        bytes_ = 0;
    }

private:
    struct Entry {
        std::vector<token_id> tokens;
        StreamMemory memory;
        Index tile, bytes;
    };
    using Entries = std::list<Entry>;  // used most recently first

    static bool begins(std::span<const token_id> text, const Entry& entry) noexcept {
        return entry.tokens.size() <= text.size() &&
               std::equal(entry.tokens.begin(), entry.tokens.end(), text.begin());
    }
    // A memory that rests was rounded behind every tile.
    static bool goes_on(const Entry& entry, const State& state) noexcept {
        return entry.memory.keeps_as(state) && (!state.rests() || entry.tile == state.tile());
    }
    // Whether states at the multiples of the stride behind a cut are those of a prefill: after a
    // cut at a multiple, or when there is none up to the end.
    bool exact_from(std::size_t cut, std::size_t end) const noexcept {
        const auto stride = static_cast<std::size_t>(stride_);
        return stride_ % Model::prefill_tile != 0 || cut % stride == 0 ||
               cut / stride == end / stride;
    }
    typename Entries::iterator longest(std::span<const token_id> prompt,
                                       const State& state) noexcept {
        auto best = entries_.end();
        for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
            if (begins(prompt.first(prompt.size() - 1), *entry) &&
                exact_from(entry->tokens.size(), prompt.size()) && goes_on(*entry, state) &&
                (best == entries_.end() || entry->tokens.size() > best->tokens.size()))
                best = entry;
        return best;
    }

    void keep(std::span<const token_id> tokens, const State& state) {
        for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
            if (entry->tokens.size() == tokens.size() && begins(tokens, *entry) &&
                goes_on(*entry, state)) {
                entries_.splice(entries_.begin(), entries_, entry);
                return;
            }
        const Index bytes = static_cast<Index>(sizeof(Entry) + tokens.size_bytes()) + state.size();
        if (bytes > budget_) return;  // longer than the cache may remember
        while (bytes_ + bytes > budget_) {
            bytes_ -= entries_.back().bytes;
            entries_.pop_back();
        }
        entries_.push_front({{tokens.begin(), tokens.end()}, state, state.tile(), bytes});
        bytes_ += bytes;
    }

    const Model& model_;
    Index budget_, stride_, bytes_ = 0;
    Entries entries_;
    PrefixCacheStatistics statistics_;
};

}  // namespace HYDRALM_NAMESPACE
