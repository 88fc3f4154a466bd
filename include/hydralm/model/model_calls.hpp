// ModelCalls: what a user calls on a model, whether its shape is a type or was read from a file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "hydralm/core/error.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/state/stream_values.hpp"

namespace HYDRALM_NAMESPACE {

// A model, or a draft, whose shape the compiler knows.
template <class Model>
concept StaticShape = requires { Model::vocab_size(); };

// Base of Model, which has vocab_size(), state_bytes, expect_weights(), new_memory(policy),
// workspace_bytes(B, N, form), forward(tokens, streams, N, form, arena) and head(hidden, logits),
// and shape() where models of one type have states that differ.
template <class Model, Real T>
class ModelCalls {
public:
    // Tokens that prefill takes through the stack at once. Pieces end at absolute multiples of it,
    // so that a text cut there gives the same bits as the whole.
    static constexpr Index prefill_tile = 256;

    // What one stream carries on, and its scratch memory. A value: a copy is a snapshot, from which
    // the stream goes on exactly as the original. Belongs to one thread at a time.
    using State = StreamValues<T, Model>;

    // A stream before its first token. tile: how many tokens prefill takes at once (stream_tile); a
    // small one keeps scratch memory small. policy: how it keeps the past. Throws Error for a
    // policy that cannot be.
    State new_state(Index tile = prefill_tile, const BankPolicy& policy = {}) const {
        (void)num_threads();  // the pool is made here, not in the first step
        tile = stream_tile(tile);
        const Index scratch = std::max(self().workspace_bytes(1, tile),
                                       self().workspace_bytes(1, tile, Form::recurrent));
        return State(self().new_memory(policy), scratch + arena_bytes<T>(self().vocab_size()), tile,
                     shape_of_states());
    }

    // Feeds tokens [N], N ≥ 1, and returns the logits [V] after the last: valid until the state is
    // used again. Throws Error for an id outside [0, V), an empty span or a state that is another
    // model's or moved from, the state unchanged. No allocation, but for the pages of banks: throws
    // std::bad_alloc, or what their source does, the state unchanged; only banks of bounded memory
    // may run out between two tiles, and position() says how many tokens they have, to go on from
    // there.
    std::span<const T> prefill(std::span<const token_id> tokens, State& state,
                               Form form = Form::parallel) const {
        expect_some(tokens);
        expect_own(state);
        const MatrixView<T> logits = state.template outputs<T>(self().vocab_size());
        const std::size_t last = tokens.size() - 1;
        run(tokens, state, form, [&](MatrixView<const T> hidden, std::size_t first) {
            if (first + static_cast<std::size_t>(hidden.rows()) > last)
                self().head(hidden.middle_rows(hidden.rows() - 1, 1), logits);
        });
        return {logits.data(), static_cast<std::size_t>(self().vocab_size())};
    }

    // Feeds one token: O(1) in the length of the stream, but for the routing of retrieval layers
    // (BankPolicy::open_groups). Otherwise as prefill, in the recurrent form.
    std::span<const T> step(token_id token, State& state) const {
        return prefill({&token, 1}, state, Form::recurrent);
    }

    // As prefill, writing the logits of every position to out [N, V]; N may be 0. Throws Error also
    // for another shape of out.
    void logits(std::span<const token_id> tokens, State& state, MatrixView<T> out,
                Form form = Form::parallel) const {
        const auto N = static_cast<Index>(tokens.size());
        if (out.rows() != N || out.cols() != self().vocab_size())
            raise({.field = "out",
                   .expected =
                       "[" + std::to_string(N) + ", " + std::to_string(self().vocab_size()) + "]",
                   .found =
                       "[" + std::to_string(out.rows()) + ", " + std::to_string(out.cols()) + "]",
                   .fix = "give a row of vocab_size logits for every token"});
        run(tokens, state, form, [&](MatrixView<const T> hidden, std::size_t first) {
            self().head(hidden, out.middle_rows(static_cast<Index>(first), hidden.rows()));
        });
    }

    // Feeds tokens tile by tile: f(hidden [n, d] after norm_f, index of its first token) for each
    // tile in order, the state behind it. What f throws leaves the state there.
    template <class F>
    void run(std::span<const token_id> tokens, State& state, Form form, const F& f) const {
        self().expect_weights();
        check(tokens);
        expect_own(state);
        state.reserve_growth(static_cast<Index>(tokens.size()));  // for all, or nothing is fed
        const Index tile = state.tile();
        for (std::size_t first = 0; first < tokens.size();) {
            const Index n = std::min<Index>(tile - state.position() % tile,
                                            static_cast<Index>(tokens.size() - first));
            state.reserve(n);
            Arena arena(state.workspace());
            const Stream stream = state.stream();
            const auto hidden =
                self().forward(tokens.data() + first, Streams(&stream, 1), n, form, arena);
            state.advance(n);
            f(hidden, first);
            first += static_cast<std::size_t>(n);
        }
    }

    // Throws Error when there is no token to go on from.
    static void expect_some(std::span<const token_id> tokens) {
        if (tokens.empty())
            raise({.field = "tokens",
                   .expected = "at least one",
                   .found = "none",
                   .fix = "start with a prompt"});
    }
    // Throws Error when an id lies outside [0, V).
    void check(std::span<const token_id> tokens) const {
        for (std::size_t i = 0; i < tokens.size(); ++i)
            if (tokens[i] < 0 || tokens[i] >= self().vocab_size())
                raise({.field = "token " + std::to_string(i),
                       .expected = "an id in [0, " + std::to_string(self().vocab_size()) + ")",
                       .found = std::to_string(tokens[i]),
                       .fix = "use the tokeniser the model was made for"});
    }

    // Throws Error for a state that is another model's, or was moved from.
    void expect_own(const State& state) const {
        state.expect_of(self().state_bytes, shape_of_states());
    }
    // 0 where the shape is the type's.
    std::uint64_t shape_of_states() const noexcept {
        if constexpr (requires { self().shape(); }) return self().shape();
        else return 0;
    }

private:
    const Model& self() const noexcept { return static_cast<const Model&>(*this); }
};

}  // namespace HYDRALM_NAMESPACE
