// HydraLM<config, T>: one configuration as one type. Embedding, the stack of blocks, final norm and
// head.
//
//   x = embed[token];  every block: x += mixer(rms(x)), x += mlp(rms(x));  logits = rms(x; norm_f)
//   headᵀ
//
// Three forms that agree to rounding: prefill of a whole text, prefill in pieces from a carried
// state, step by step.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/model/config_fields.hpp"
#include "hydralm/model/stream_values.hpp"
#include "hydralm/model/structure.hpp"

namespace HYDRALM_NAMESPACE {
// T: scalar of weights, activations and state, float or double.
//
// A const model may be used by many threads at once, each with its own State. Movable, not
// copyable. Sizes are constants of the type: parameter_count, state_bytes, weight_bytes,
// workspace_bytes(B, N, form).
template <HydraConfig given, Real T = float>
class HydraLM {
    static_assert(ValidConfig<given>::value);

public:
    using Scalar = T;
    static constexpr HydraConfig config = resolved(given);
    using Structure = ModelStructure<config, T>;
    static constexpr auto stack = Structure::stack;

    // Tokens that prefill takes through the stack at once. Pieces end at absolute multiples of it,
    // so that a text cut there gives the same bits as the whole.
    static constexpr Index prefill_tile = 256;

    // ---- parameters
    // ---------------------------------------------------------------------------------------------

    template <class Storage>
    using Parameters = typename Structure::template Parameters<Storage>;

    // Tensors in file order: name, shape, kind.
    static constexpr const auto& parameters = parameter_table<Structure>;
    static constexpr Index parameter_count = [] {
        Index n = 0;
        for (const auto& info : parameters) n += info.size();
        return n;
    }();
    static constexpr Index largest_parameter = [] {
        Index n = 0;
        for (const auto& info : parameters) n = std::max(n, info.size());
        return n;
    }();
    // Bytes of the weights as they are computed with: packed in panels, aligned.
    static constexpr Index weight_bytes = [] {
        Index n = 0;
        for (const auto& info : parameters) n += packed_size<T>(info);
        return n * static_cast<Index>(sizeof(T));
    }();
    // Bytes that one stream carries on, beside what the banks of retrieval layers hold.
    static constexpr Index state_bytes = stack.all_states().bytes;
    // The memory of a stream before its first token. Allocates. Throws Error for a policy that
    // cannot be.
    static StreamMemory new_memory(const BankPolicy& policy = {}) {
        return stack.new_memory(policy);
    }

    // The policy under which the banks of a stream together never take more than budget bytes, in
    // states of at most this tile. Throws Error for a budget too small for one chunk and its mean.
    static BankPolicy bounded_banks(Index budget, BankFormat format = BankFormat::exact,
                                    Index tile = prefill_tile) {
        const StreamMemory memory = new_memory();
        if (memory.banks().empty()) return {};
        return bounded_policy(memory.banks().front().layout(),
                              budget / static_cast<Index>(memory.banks().size()), format, tile);
    }

    // All parameters zero, in memory of the model's own.
    HydraLM() : owned_(weight_bytes), memory_(owned_.data()) { bind(); }
    // Weights in the caller's memory: at least weight_bytes, aligned to hydralm::alignment,
    // outliving the model. Its contents become the weights as they are (zeros, or what another such
    // model left there). No allocation.
    explicit HydraLM(std::span<std::byte> memory) : memory_(memory.data()) {
        if (static_cast<Index>(memory.size()) < weight_bytes ||
            reinterpret_cast<std::uintptr_t>(memory_) % alignment != 0)
            throw Error({.field = "weight memory",
                         .expected = std::to_string(weight_bytes) + " bytes aligned to " +
                                     std::to_string(alignment),
                         .found = std::to_string(memory.size()) + " bytes",
                         .fix = "give alignas(64) storage of HydraLM::weight_bytes"});
        bind();
    }
    HydraLM(HydraLM&&) noexcept = default;
    HydraLM& operator=(HydraLM&&) noexcept = default;

    // f(const ParameterInfo&, std::span<T> values) fills every tensor, row-major, in file order.
    // Allocates one tensor's worth of scratch. When f throws, the tensors before have their new
    // values.
    template <class F>
    void set_parameters(F f) {
        AlignedBuffer<T> scratch(largest_parameter);
        StorePacked<T, F> store(reinterpret_cast<T*>(memory_), scratch.span(), f);
        Structure{}.visit(weights_, store);
    }
    // f(const ParameterInfo&, std::span<const T> values) is shown every tensor, row-major, in file
    // order.
    template <class F>
    void get_parameters(F f) const {
        AlignedBuffer<T> scratch(largest_parameter);
        ReadPacked<T, F> read(scratch.span(), f);
        Structure{}.visit(weights_, read);
    }
    const Parameters<PackedStorage<T>>& weights() const noexcept { return weights_; }

    // ---- one stream
    // ---------------------------------------------------------------------------------------------

    // What one stream carries on, and its scratch memory. A value: a copy is a snapshot, from which
    // the stream goes on exactly as the original. Belongs to one thread at a time.
    using State = StreamValues<T, HydraLM>;

    // A stream before its first token. tile: how many tokens prefill takes at once (stream_tile); a
    // small one keeps scratch memory small, and changes no bit. policy: how the banks of retrieval
    // layers keep the past. Throws Error for a policy that cannot be.
    State new_state(Index tile = prefill_tile, const BankPolicy& policy = {}) const {
        (void)num_threads();  // the pool is made here, not in the first step
        tile = stream_tile(tile);
        return State(new_memory(policy),
                     workspace_bytes(1, tile) + arena_bytes<T>(config.vocab_size), tile);
    }

    // Feeds tokens [N], N ≥ 1, and returns the logits [V] after the last: valid until the state is
    // used again. Throws Error for an id outside [0, V), an empty span or a moved-from state, the
    // state unchanged. No allocation, but for the pages of retrieval banks: throws std::bad_alloc,
    // or what their source does, the state unchanged; only banks of bounded memory may run out
    // between two tiles, and position() says how many tokens they have, to go on from there.
    std::span<const T> prefill(std::span<const token_id> tokens, State& state,
                               Form form = Form::parallel) const {
        expect_some(tokens);
        state.expect_bytes(state_bytes);
        const MatrixView<T> logits = state.template outputs<T>(config.vocab_size);
        const std::size_t last = tokens.size() - 1;
        run(tokens, state, form, [&](MatrixView<const T> hidden, std::size_t first) {
            if (first + static_cast<std::size_t>(hidden.rows()) > last)
                head(hidden.middle_rows(hidden.rows() - 1, 1), logits);
        });
        return {logits.data(), static_cast<std::size_t>(config.vocab_size)};
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
        if (out.rows() != N || out.cols() != config.vocab_size)
            throw Error({.field = "out",
                         .expected = "[" + std::to_string(N) + ", " +
                                     std::to_string(config.vocab_size) + "]",
                         .found = "[" + std::to_string(out.rows()) + ", " +
                                  std::to_string(out.cols()) + "]",
                         .fix = "give a row of vocab_size logits for every token"});
        run(tokens, state, form, [&](MatrixView<const T> hidden, std::size_t first) {
            head(hidden, out.middle_rows(static_cast<Index>(first), hidden.rows()));
        });
    }

    // Feeds tokens tile by tile: f(hidden [n, d] after norm_f, index of its first token) for each
    // tile in order, the state behind it. What f throws leaves the state there.
    template <class F>
    void run(std::span<const token_id> tokens, State& state, Form form, const F& f) const {
        check(tokens);
        state.expect_bytes(state_bytes);
        state.reserve_growth(static_cast<Index>(tokens.size()));  // for all, or nothing is fed
        const Index tile = state.tile();
        for (std::size_t first = 0; first < tokens.size();) {
            const Index n = std::min<Index>(tile - state.position() % tile,
                                            static_cast<Index>(tokens.size() - first));
            state.reserve(n);
            Arena arena(state.workspace());
            const Stream stream = state.stream();
            const auto hidden = forward(tokens.data() + first, Streams(&stream, 1), n, form, arena);
            state.advance(n);
            f(hidden, first);
            first += static_cast<std::size_t>(n);
        }
    }

    // sink("<layer>.<name>", shape, std::vector<T>) for every array of the state, in the layout of
    // files: conv_cache [3I, K−1] and S [H, Dv, Dk]; k_cache and v_cache [H, min(position, W), D],
    // oldest first; conv_cache, keys and values [H, position, D], summaries [H, position/C, D] (of
    // a bounded bank, the last of them). Allocates.
    template <class Sink>
    void export_state(State& state, const Sink& sink) const {
        constexpr auto offsets = stack.state_offsets();
        const Stream stream = state.stream();
        stack.for_each([&](const auto& block, auto i) {
            const auto part = bind_state(block, Streams(&stream, 1).at(offsets[i]), 0);
            block.mixer().export_state(
                part, state.position(),
                [&](const char* name, auto shape, const std::vector<T>& values) {
                    sink(std::to_string(i) + "." + name, shape, values);
                });
        });
    }

    // ---- many streams
    // -------------------------------------------------------------------------------------------

    // Scratch of forward for B sequences of N tokens.
    static constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) noexcept {
        return 2 * arena_bytes<T>(B * N * config.d_model) + stack.workspace_bytes(B, N, form);
    }

    // Takes N tokens of each of B streams through the stack: tokens [B·N], stream after stream, all
    // in [0, V). Returns rms(x; norm_f) [B·N, d] in the arena. The states advance; positions are
    // the caller's. One read of the weights for all streams; every row has the bits it would have
    // alone. No allocation; never throws.
    MatrixView<T> forward(const token_id* tokens, Streams streams, Index N, Form form,
                          Arena& arena) const noexcept {
        const Index rows = streams.count() * N;
        const MatrixView<T> x(arena.take<T>(rows * config.d_model), rows, config.d_model);
        const MatrixView<T> normed(arena.take<T>(rows * config.d_model), rows, config.d_model);
        for (Index r = 0; r < rows; ++r) weights_.embed.copy_row(tokens[r], x.row(r));
        stack.forward(weights_.blocks, streams, N, x, form, arena);
        kernels::rms_norm(x, std::span<const T>(weights_.norm_f), config.rms_eps, normed);
        return normed;
    }

    // logits [M, V] = hidden [M, d] · headᵀ.
    void head(MatrixView<const T> hidden, MatrixView<T> logits) const noexcept {
        if constexpr (config.tie_embeddings)
            kernels::matmul(hidden, weights_.embed, logits, kernels::Assign{});
        else kernels::matmul(hidden, weights_.lm_head, logits, kernels::Assign{});
    }

    // Throws Error when there is no token to go on from.
    static void expect_some(std::span<const token_id> tokens) {
        if (tokens.empty())
            throw Error({.field = "tokens",
                         .expected = "at least one",
                         .found = "none",
                         .fix = "start with a prompt"});
    }
    // Throws Error when an id lies outside [0, V).
    static void check(std::span<const token_id> tokens) {
        for (std::size_t i = 0; i < tokens.size(); ++i)
            if (tokens[i] < 0 || tokens[i] >= config.vocab_size)
                throw Error({.field = "token " + std::to_string(i),
                             .expected = "an id in [0, " + std::to_string(config.vocab_size) + ")",
                             .found = std::to_string(tokens[i]),
                             .fix = "use the tokeniser the model was made for"});
    }

private:
    void bind() noexcept {
        BindPacked<T> binder(reinterpret_cast<T*>(memory_));
        Structure{}.visit(weights_, binder);
    }

    AlignedBuffer<std::byte> owned_;
    std::byte* memory_ = nullptr;
    Parameters<PackedStorage<T>> weights_;
};

}  // namespace HYDRALM_NAMESPACE
