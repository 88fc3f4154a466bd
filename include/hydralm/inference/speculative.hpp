// SpeculativeDecoder: several tokens a pass, drafted cheaply and checked by the model; the output
// is the model's own, token for token when greedy, in distribution when sampled.
//
// A round feeds a token and k drafts at once, in the recurrent form: the bits of step, of a
// state that does not rest in int16 (it is rounded once a round). Draft i with
// draft probability q and model probability p is kept with probability min(1, p/q); the first that
// is not is replaced by a draw from max(0, p − q), and the state goes back to before it.
// Source: Leviathan et al. (arXiv 2211.17192), algorithm 1; Chen et al. (arXiv 2302.01318).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "hydralm/inference/drafts.hpp"
#include "hydralm/inference/sampling.hpp"

namespace HYDRALM_NAMESPACE {

struct SpeculativeStatistics {
    std::int64_t proposed = 0;  // drafts
    std::int64_t accepted = 0;  // of them
    std::int64_t rounds = 0;    // passes of the model
    std::int64_t tokens = 0;    // fed
    double acceptance() const noexcept { return ratio(accepted, proposed); }
    double tokens_per_round() const noexcept { return ratio(tokens, rounds); }

private:
    static double ratio(std::int64_t a, std::int64_t b) noexcept {
        return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
    }
};

// Model and draft must outlive the decoder. All memory but the pages of retrieval banks, and a copy
// of the last prompt, is taken by the constructor.
template <class Model, class Draft>
class SpeculativeDecoder {
    static constexpr bool same_vocabulary = [] {
        if constexpr (StaticShape<Draft> && StaticShape<Model>)
            return Draft::vocab_size() == Model::vocab_size();
        else return true;
    }();
    static_assert(same_vocabulary,
                  "hydralm: vocab_size: a draft must have that of the model; use a draft made for "
                  "the same tokeniser");

public:
    using T = typename Model::Scalar;
    using State = typename Model::State;

    // draft_tokens: drafts a round, 0 or more. Throws Error when they and the token before them are
    // more than a window of the model or Model::prefill_tile, and for a draft of another
    // vocabulary.
    SpeculativeDecoder(const Model& model, Draft& draft, Index draft_tokens)
        : model_(model),
          draft_(draft),
          V(model.vocab_size()),
          d(model.d_model()),
          most_(checked(model, draft, draft_tokens)),
          history_(model.stack.history_bytes(most_ + 1)),
          workspace_(model.workspace_bytes(1, most_ + 1, Form::recurrent)),
          target_((most_ + 1) * V),
          drafted_(std::max<Index>(1, most_) * V),
          p_(V),
          last_(V),
          hidden_(d),
          tokens_(static_cast<std::size_t>(most_ + 1)),
          guesser_(V) {
        untold_.reserve(tokens_.size());
    }

    // Feeds a prompt, N ≥ 1, to a new stream (position 0), or to the one that was fed before;
    // throws Error as Model::prefill does, and for a state whose banks are bounded and made for a
    // tile of fewer tokens than a round. What the draft throws of the prompt comes after the prompt
    // was fed; generate tells it again.
    void prefill(std::span<const token_id> prompt, State& state) {
        Model::expect_some(prompt);
        expect_rounds(state);
        if (state.position() == 0) {
            untold_.clear();
            draft_.reset();
        } else if (!untold_.empty()) {
            tell_draft();
        }
        untold_.reserve(prompt.size());
        reserve_draft(static_cast<Index>(prompt.size()));
        model_.run(
            prompt, state, Form::parallel, [&](MatrixView<const T> hidden, std::size_t first) {
                std::copy_n(hidden.row(hidden.rows() - 1), d, hidden_.data());
                show_draft(prompt.subspan(first, static_cast<std::size_t>(hidden.rows())), hidden);
            });
        model_.head({hidden_.data(), 1, d}, {last_.data(), 1, V});
        pending_.reset();
        taken_ = false;
        untold_.assign(prompt.begin(), prompt.end());
        tell_draft();
    }

    // As hydralm::generate, from the prompt's end or where the last call ended. Throws Error as
    // prefill and Sampler do, and what keep_going, the draft and the source of pages throw: nothing
    // is lost. The state is after the tokens that were fed; one that keep_going took, but for which
    // there was no memory, is fed first when generate is called again.
    template <class KeepGoing>
    Index generate(State& state, Sampler<T>& sampler, Index count, const KeepGoing& keep_going) {
        expect_rounds(state);
        guesser_.follow(sampler);
        Index fed = 0;
        while (fed < count) {
            if (!taken_) {
                tokens_[0] = pending_ ? *pending_ : sampler(last_.span());
                pending_.reset();
                if (!keep_going(tokens_[0])) return fed;
                taken_ = true;
            }
            const Index k = std::min(most_, count - fed - 1);
            tell_draft();
            propose(sampler, k);
            reserve_draft(k + 1);
            const Stream before = verify(state, k + 1);
            taken_ = false;
            bool stop = false;
            Index kept = 1;
            {
                const detail::AtEnd settled([&] { settle(state, before, k + 1, kept); });
                while (!stop && kept <= k && accept(sampler, kept))
                    if (keep_going(tokens_[static_cast<std::size_t>(kept)])) ++kept;
                    else stop = true;
            }
            fed += kept;
            if (stop) return fed;
        }
        return fed;
    }

    const SpeculativeStatistics& statistics() const noexcept { return statistics_; }

private:
    static Index checked(const Model& model, const Draft& draft, Index draft_tokens) {
        if (draft.vocab_size() != model.vocab_size())
            raise({.field = "vocab_size of the draft",
                   .expected = std::to_string(model.vocab_size()),
                   .found = std::to_string(draft.vocab_size()),
                   .fix = "use a draft made for the same tokeniser"});
        const Index most = std::min(Model::prefill_tile, model.stack.most_history()) - 1;
        if (draft_tokens < 0 || draft_tokens > most)
            raise({.field = "draft_tokens",
                   .expected = "0 to " + std::to_string(most) + ", less than a window and a tile",
                   .found = std::to_string(draft_tokens),
                   .fix = "draft fewer tokens a round"});
        return draft_tokens;
    }
    void expect_rounds(const State& state) const {
        model_.expect_weights();
        state.expect_bytes(model_.state_bytes);
        for (const PageBank& bank : state.banks())
            if (bank.policy().bounded() && most_ >= state.tile())
                raise({.field = "draft_tokens",
                       .expected = "0 to " + std::to_string(state.tile() - 1) +
                                   ", less than the tile of a state of bounded banks",
                       .found = std::to_string(most_),
                       .fix = "make state and banks for a larger tile, or draft fewer"});
    }
    std::span<T> row(AlignedBuffer<T>& rows, Index i) const noexcept {
        return rows.span().subspan(static_cast<std::size_t>(i * V), static_cast<std::size_t>(V));
    }

    // To a draft that follows every token.
    void reserve_draft(Index tokens) {
        if constexpr (FollowsTokens<Draft, T>) draft_.reserve(tokens);
        else (void)tokens;
    }
    void show_draft(std::span<const token_id> tokens, MatrixView<const T> hidden) noexcept {
        if constexpr (FollowsTokens<Draft, T>) draft_.follow(tokens, hidden);
        else (void)tokens, (void)hidden;
    }

    void tell_draft() {
        draft_.begin(untold_, {hidden_.data(), 1, d});
        untold_.clear();
    }

    // tokens_[1 … k], each with the distribution it was drawn from.
    void propose(Sampler<T>& sampler, Index k) {
        const bool penalised = sampler.options().repetition_penalty != 1.0;
        if (penalised) guesser_.follow(sampler);  // its own account of tokens seen
        for (Index i = 1; i <= k; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const auto q = row(drafted_, i - 1);
            guesser_.probabilities(draft_.next(tokens_[at - 1]), q);
            tokens_[at] = draw<T>(q, sampler.random());
            if (penalised) guesser_.observe(tokens_[at]);
        }
    }

    // Feeds tokens_[0 … N); logits behind each. Returns the stream as it was before.
    Stream verify(State& state, Index N) {
        state.reserve(N);
        Arena history(history_.span()), arena(workspace_.span());
        Stream stream = state.stream();
        stream.history = &history;
        verified_ = model_.forward(tokens_.data(), Streams(&stream, 1), N, Form::recurrent, arena);
        model_.head(verified_, {target_.data(), N, V});
        ++statistics_.rounds;
        stream.history = nullptr;
        return stream;
    }

    // Whether draft i stays; else pending_ is what comes in its place.
    bool accept(Sampler<T>& sampler, Index i) {
        const auto token = tokens_[static_cast<std::size_t>(i)];
        const auto at = static_cast<std::size_t>(token);
        const auto q = row(drafted_, i - 1);
        sampler.probabilities(row(target_, i - 1), p_.span());
        if (sampler.random().uniform() * static_cast<double>(q[at]) <
            static_cast<double>(p_.span()[at])) {
            sampler.observe(token);
            ++statistics_.accepted;
            return true;
        }
        T rest(0);
        for (std::size_t j = 0; j < q.size(); ++j)
            rest += q[j] = std::max(T(0), p_.span()[j] - q[j]);
        pending_ = draw<T>(rest > T(0) ? std::span<const T>(q) : p_.span(), sampler.random());
        sampler.observe(*pending_);
        return false;
    }

    // The state after kept of the N tokens, and what the next round begins with.
    void settle(State& state, const Stream& before, Index N, Index kept) noexcept {
        if (kept < N) {
            Arena history(history_.span());
            model_.stack.rollback(before, N, kept, history);
        }
        state.advance(kept);
        statistics_.proposed += N - 1;
        statistics_.tokens += kept;
        std::copy_n(row(target_, kept - 1).data(), V, last_.data());
        std::copy_n(verified_.row(kept - 1), d, hidden_.data());
        untold_.assign(tokens_.begin(), tokens_.begin() + kept);
        show_draft(untold_, verified_.middle_rows(0, kept));
    }

    const Model& model_;
    Draft& draft_;
    const Index V, d;
    Index most_;
    AlignedBuffer<std::byte> history_, workspace_;
    AlignedBuffer<T> target_;   // [most + 1, V], logits behind every token of a round
    AlignedBuffer<T> drafted_;  // [most, V], the distributions drafts were drawn from
    AlignedBuffer<T> p_, last_, hidden_;
    std::vector<token_id> tokens_;  // of a round
    std::vector<token_id> untold_;  // fed since the draft was told
    bool taken_ = false;            // tokens_[0] by keep_going, and not fed
    MatrixView<T> verified_;        // hidden states of the round, in workspace_
    std::optional<token_id> pending_;
    Sampler<T> guesser_;
    SpeculativeStatistics statistics_;
};

}  // namespace HYDRALM_NAMESPACE
