// Standalone: one mixer with weights and states of its own, for use inside other code.
//
// A mixer type only says what is computed; HydraLM lays the weights and the states of all its
// mixers into common buffers. Standalone<Mixer> does that for a single one. It adds no arithmetic:
// a stream has the bits it has inside a model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "hydralm/core/error.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/model/shape_number.hpp"
#include "hydralm/model/weight_memory.hpp"
#include "hydralm/state/stream_values.hpp"

namespace HYDRALM_NAMESPACE {

// Mixer: a module (layers/module.hpp), the library's with a static or a run-time Shape or a user's.
//
// A const Standalone may be used by many threads at once, each with its own State. Movable, not
// copyable: weights are views into its buffer; one that was moved from is refused where Error is
// thrown, and may be assigned to.
template <class Mixer>
class Standalone {
    static_assert(ExpectModule<Mixer>::value);

public:
    using Scalar = typename Mixer::Scalar;
    using T = Scalar;
    // What initialise asks of a model: a layer alone is as deep as one.
    static constexpr Index layers = 1;
    static constexpr double initializer_range = 0.02;
    // What one stream carries on, and its scratch memory. A value: a copy is a snapshot.
    using State = StreamValues<T, Standalone>;

    // All parameters zero; allocates them. Throws Error for a run-time shape that is impossible.
    explicit Standalone(Mixer mixer = {})
        : mixer_(checked(mixer)), shape_(shape_number(mixer)), memory_(packed_bytes(mixer)) {
        BindPacked<T> binder(memory_.data());
        mixer_.visit(weights_, binder);
    }
    Standalone(Standalone&&) noexcept = default;
    Standalone& operator=(Standalone&&) noexcept = default;

    const Mixer& mixer() const noexcept { return mixer_; }
    const auto& weights() const noexcept { return weights_; }
    Index parameter_count() const {
        Index n = 0;
        describe_parameters(mixer_, [&](const ParameterInfo& info) { n += info.size(); });
        return n;
    }

    // f(const ParameterInfo&, std::span<T> values) fills every tensor, row-major, in file order.
    // Allocates one tensor's worth of scratch.
    template <class F>
    void set_parameters(F f) {
        std::byte* const memory = memory_.to_write();
        AlignedBuffer<T> scratch(largest_parameter());
        StorePacked<T, F> store(memory, scratch.span(), f);
        mixer_.visit(weights_, store);
    }
    // f(const ParameterInfo&, std::span<const T> values) is shown every tensor, row-major, in file
    // order. Allocates one tensor's worth of scratch.
    template <class F>
    void get_parameters(F f) const {
        memory_.expect();
        AlignedBuffer<T> scratch(largest_parameter());
        ReadPacked<T, F> read(scratch.span(), f);
        mixer_.visit(weights_, read);
    }

    // A stream before its first token. tile: how many tokens forward takes at once (stream_tile); a
    // small one keeps scratch memory small. Longer inputs are cut at absolute multiples of it.
    // policy: how a mixer that grows keeps the past. Throws Error for a policy that cannot be.
    State new_state(Index tile = 256, const BankPolicy& policy = {}) const {
        (void)num_threads();  // the pool is made here, not in the first call
        tile = stream_tile(tile);
        const Index scratch =
            std::max(scratch_bytes(mixer_, {.tokens = tile}),
                     scratch_bytes(mixer_, {.tokens = tile, .form = Form::recurrent}));
        return State(new_memory(policy), scratch, tile, shape_);
    }
    // The memory of a stream before its first token, without scratch. Throws as new_state.
    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        StateParts parts;
        add_state(mixer_, parts, policy);
        return {std::move(parts), policy.state};
    }

    // y = mixer(x), x and y [N, d], N ≥ 0; the state advances by N tokens. x and y must not
    // overlap. Throws Error for other widths or counts and for a state of another shape or moved
    // from, the state unchanged. No allocation, but for
    // the pages of a mixer that grows, as HydraLM::prefill has it.
    void forward(MatrixView<const T> x, MatrixView<T> y, State& state,
                 Form form = Form::parallel) const {
        memory_.expect();
        check(x, y);
        state.expect_of(state_bytes(mixer_), shape_);
        state.reserve_growth(x.rows());  // for all, or nothing is fed
        const Index tile = state.tile();
        for (Index first = 0; first < x.rows();) {
            const Index n = std::min<Index>(tile - state.position() % tile, x.rows() - first);
            state.reserve(n);
            Arena arena(state.workspace());
            const Stream stream = state.stream();
            mixer_.forward(weights_, Streams(&stream, 1), n, x.middle_rows(first, n),
                           y.middle_rows(first, n), form, Write::assign, arena);
            state.advance(n);
            first += n;
        }
    }

    // One token: y [d] = mixer(x [d]), in time independent of the length of the stream but for
    // retrieval's routing, 2 D/C FLOP a head and token of the past, and attention to all of it, 4
    // D. Otherwise as forward in the recurrent form.
    void step(std::span<const T> x, std::span<T> y, State& state) const {
        forward(MatrixView<const T>(x.data(), 1, static_cast<Index>(x.size())),
                MatrixView<T>(y.data(), 1, static_cast<Index>(y.size())), state, Form::recurrent);
    }

private:
    static Mixer checked(Mixer mixer) {
        const auto require = [](bool good, const char* field, auto found) {
            if (!good)
                raise({.field = field,
                       .expected = "a number above 0",
                       .found = std::to_string(found),
                       .fix = "give the mixer a complete shape"});
        };
        require(mixer.d_model() > 0, "d_model", mixer.d_model());
        if constexpr (requires { mixer.shape(); }) {
            const auto& shape = mixer.shape();
            if constexpr (requires { shape.n_heads; })
                require(shape.n_heads > 0, "n_heads", shape.n_heads);
            if constexpr (requires { shape.conv_kernel; })
                require(shape.conv_kernel > 0, "conv_kernel", shape.conv_kernel);
            if constexpr (requires { shape.top_k; }) require(shape.top_k > 0, "top_k", shape.top_k);
            if constexpr (requires { shape.window; } && !requires { shape.rotary_dim; })
                require(shape.window > 0, "window", shape.window);
            if constexpr (requires { shape.hidden; })
                require(shape.hidden > 0, "hidden", shape.hidden);
            if constexpr (requires { shape.rope_base; })
                require(shape.rope_base > 0.0, "rope_base", shape.rope_base);
            if constexpr (requires { shape.chunk_size; })
                if (shape.chunk_size < 0 || shape.chunk_size > Mixer::Head::most_tokens)
                    raise({.field = "chunk_size",
                           .expected = "at most " + std::to_string(Mixer::Head::most_tokens) +
                                       ", the mixer's ChunkSize, or 0 for as many",
                           .found = std::to_string(shape.chunk_size),
                           .fix = "give the mixer a larger ChunkSize"});
            if constexpr (requires { shape.n_kv_heads; })
                if (shape.n_kv_heads < 0 ||
                    (shape.n_kv_heads > 0 && shape.n_heads % shape.n_kv_heads != 0))
                    raise({.field = "n_kv_heads",
                           .expected = "a divisor of n_heads, " + std::to_string(shape.n_heads) +
                                       ", or 0 for as many",
                           .found = std::to_string(shape.n_kv_heads),
                           .fix = "give every group of keys and values as many heads"});
        }
        return mixer;
    }
    static Index packed_bytes(const Mixer& mixer) {
        Index n = 0;
        describe_parameters(mixer, [&](const ParameterInfo& info) { n += packed_size<T>(info); });
        return n;
    }
    Index largest_parameter() const {
        Index n = 0;
        describe_parameters(mixer_,
                            [&](const ParameterInfo& info) { n = std::max(n, info.size()); });
        return n;
    }
    void check(MatrixView<const T> x, MatrixView<T> y) const {
        const Index d = mixer_.d_model();
        const auto extents = [](Index rows, Index cols) {
            return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
        };
        if (x.cols() != d || y.cols() != d || x.rows() != y.rows())
            raise({.field = "x and y",
                   .expected = "both [N, " + std::to_string(d) + "]",
                   .found = extents(x.rows(), x.cols()) + " and " + extents(y.rows(), y.cols()),
                   .fix = "give views as wide as the mixer's d_model"});
    }

    Mixer mixer_;
    std::uint64_t shape_;
    WeightMemory memory_;
    typename Mixer::template Parameters<PackedStorage<T>> weights_;
};

}  // namespace HYDRALM_NAMESPACE
