// Sliding-window attention: exact softmax attention over the last W tokens.
//
//   [q; k; v] = qkv_proj x,  RoPE on q and k at the absolute position,  o_t = softmax(q_t·k_s/√D)
//   v_s over s ∈ (t−W, t], y = o_proj o
//
// State: the last W rotated keys and values of every head in a ring (token t in slot t mod W).
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rotary/rotary.hpp"
#include "hydralm/kernels/window_attention/window_attention.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. HeadDim: D. ChunkSize: queries of a tile, 0: the
// fastest for this instruction set; results are the same. Shape: WindowShape or
// RuntimeWindowShape.
template <Real T, Index HeadDim, Index ChunkSize = 0, class Shape = RuntimeWindowShape>
class SlidingWindowAttention {
    static_assert(WindowShaped<Shape>,
                  "hydralm: shape: must be one of this module's; give SlidingWindowAttention a "
                  "WindowShape or a RuntimeWindowShape");
    static_assert(
        HeadDim >= 4 && HeadDim % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    static_assert(ChunkSize == 0 || kernels::window_attention_has_tile(ChunkSize),
                  "hydralm: chunk: must be a multiple of 16 up to 128; 0 takes the fastest");

public:
    using Scalar = T;
    static constexpr Index head_dim = HeadDim;

    constexpr SlidingWindowAttention() = default;
    constexpr explicit SlidingWindowAttention(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("sliding_window_attention");
        v.option("d_model", shape_.d_model);
        v.option("n_heads", shape_.n_heads);
        v.option("head_dim", HeadDim);
        v.option("window", shape_.window);
        v.option("rope_base", shape_.rope_base);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};  // [3I, d]
        typename Storage::Matrix o_proj{};    // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, 3 * inner(), shape_.d_model, 3);
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, shape_.d_model, inner());
    }

    struct State {
        T* keys;    // [H, W, D]
        T* values;  // [H, W, D]
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.array(s.keys, shape_.n_heads * shape_.window * HeadDim);
        v.array(s.values, shape_.n_heads * shape_.window * HeadDim);
    }

    // sink(name, shape, values): k_cache and v_cache [H, min(pos, W), D], oldest first.
    template <class Sink>
    void export_state(const State& s, std::int64_t position, const Sink& sink) const {
        const Index H = shape_.n_heads, D = HeadDim,
                    kept = std::min<std::int64_t>(position, shape_.window);
        std::vector<T> values(static_cast<std::size_t>(H * kept * D));
        for (const bool key : {true, false}) {
            for (Index h = 0; h < H; ++h)
                copy_past(key ? s.keys : s.values, h, position, kept,
                          {values.data() + h * kept * D, kept, D});
            sink(key ? "k_cache" : "v_cache", std::array{H, kept, D}, values);
        }
    }

    // ---- buffers

    struct Scratch {
        MatrixView<T> qkv;     // [B·N, 3I]
        MatrixView<T> angles;  // [B·N, D], cosines, then sines
        MatrixView<T> o;       // [B·N, I], where no tape keeps it
        TaskScratch heads;     // of B·H
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        v.matrix(s.qkv, call.rows(), 3 * inner());
        v.matrix(s.angles, call.rows(), HeadDim);
        if (!call.recorded) v.matrix(s.o, call.rows(), inner());
        v.tasks(s.heads, call.streams * shape_.n_heads,
                call.form == Form::recurrent  // it reads the ring where it is
                    ? 0
                    : (call.recorded ? 0 : buffer_bytes<Seen>([&](auto& seen, auto& size) {
                          visit_seen(seen, size, shape_.window - 1 + call.tokens);
                      })) +
                          kernels::window_attention_workspace_bytes<T, HeadDim, ChunkSize>());
    }

    // Probabilities are computed again, tile by tile: nothing of size N×N or N×W. 4I + H numbers a
    // token, and 2I(W − 1) a stream.
    struct Tape {
        MatrixView<T> queries;  // [B·N, I], rotated
        MatrixView<T> keys;     // [B·(W−1+N), I], rotated; a stream's past, then its N tokens
        MatrixView<T> values;   // [B·(W−1+N), I]
        MatrixView<T> o;        // [B·N, I]
        T* log_sum_exp;         // [B, H, N]
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        const Index B = call.streams, N = call.tokens, I = inner();
        v.matrix(t.queries, B * N, I);
        v.matrix(t.keys, B * most_seen(N), I);
        v.matrix(t.values, B * most_seen(N), I);
        v.matrix(t.o, B * N, I);
        v.array(t.log_sum_exp, B * N * shape_.n_heads);
    }

    struct BackwardScratch {
        MatrixView<T> dqkv;    // [B·N, 3I]
        MatrixView<T> dout;    // [B·N, I]
        MatrixView<T> angles;  // as in Scratch
        TaskScratch heads;     // of B·H
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const;

    // The rows of the ring that the tokens overwrote: of at most W.
    constexpr Index most_history() const noexcept { return shape_.window; }
    struct History {
        MatrixView<T> keys, values;  // [N, I]
    };
    template <class V>
    constexpr void visit_history(History& h, V& v, Index N) const {
        v.matrix(h.keys, N, inner());
        v.matrix(h.values, N, inner());
    }

    // ---- computing

    // As layers/module.hpp says. Cost: O(B·N·(d·I + I·min(N + position, W))).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y,
                 Form form, Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), rows = B * N, H = shape_.n_heads;
        const Scratch s = take_scratch(*this, arena, {B, N, form, records<R>});
        MatrixView<T> o = s.o;
        if constexpr (records<R>) o = tape.o;
        if (Arena* const memory = streams.history()) remember_ring(streams, N, *memory);
        kernels::matmul(x, p.qkv_proj, s.qkv, acc, &arena);
        write_angles(streams, N, s.angles);
        std::int64_t furthest = 0;
        for (Index b = 0; b < B; ++b) furthest = std::max(furthest, streams.position(b));
        parallel_for(
            B * H,
            [&](Index task) {
                const Index b = task / H, h = task % H;
                const Heads head{bind_state(*this, streams, b), streams.position(b),
                                 s.qkv.middle_rows(b * N, N),   s.angles.middle_rows(b * N, N),
                                 o.middle_rows(b * N, N),       h};
                Arena own = s.heads.of(task);
                rotate(head);
                if (form == Form::recurrent) step_head(head);
                else if constexpr (records<R>) record_head(head, tape, b, own);
                else attend_head(head, own);
            },
            records<R> ||
                rows * inner() * std::min<std::int64_t>(furthest + N, shape_.window) > 32768);
        project(o, p.o_proj, y, write, &arena);
    }

    // ---- a text that is cut (layers/module.hpp)

    constexpr Index halo() const noexcept { return shape_.window - 1; }
    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const T> x, T*,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {.tokens = N});
        kernels::matmul(x, p.qkv_proj, s.qkv, acc, &arena);
        write_angles(streams, N, s.angles);
        for (Index h = 0; h < shape_.n_heads; ++h) {
            const Heads head{
                bind_state(*this, streams, 0), streams.position(0), s.qkv, s.angles, s.o, h};
            rotate(head);
            for (Index n = std::max<Index>(0, N - shape_.window); n < N; ++n) put(head, n);
        }
    }

    // As layers/module.hpp says, for N ≤ W.
    void rollback(const State& state, std::int64_t position, Index N, Index kept,
                  Arena& memory) const noexcept {
        const History h = take_history(*this, memory, N);
        for_ring_rows(position, N, [&](Index slot, Index row, Index column) {
            if (row < kept) return;
            std::copy_n(h.keys.row(row) + column, HeadDim, state.keys + slot);
            std::copy_n(h.values.row(row) + column, HeadDim, state.values + slot);
        });
    }

    // As layers/module.hpp says; defined in sliding_window_attention_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

private:
    // One head of one stream's N tokens.
    struct Heads {
        State state;
        std::int64_t position;
        MatrixView<T> qkv, angles, o;
        Index h;
        MatrixView<T, HeadDim> part(Index i) const noexcept {
            return qkv.template middle_cols<HeadDim>(i * o.cols() + h * HeadDim);
        }
        MatrixView<T, HeadDim> out() const noexcept {
            return o.template middle_cols<HeadDim>(h * HeadDim);
        }
    };
    // Keys and values that the tokens of a call see: the past in the window, then their own.
    struct Seen {
        MatrixView<T> keys, values;
    };
    template <class V>
    static constexpr void visit_seen(Seen& s, V& v, Index tokens) {
        v.matrix(s.keys, tokens, HeadDim);
        v.matrix(s.values, tokens, HeadDim);
    }

    constexpr Index inner() const noexcept { return shape_.n_heads * HeadDim; }
    constexpr Index most_seen(Index N) const noexcept { return shape_.window - 1 + N; }
    constexpr Index past(std::int64_t position) const noexcept {
        return static_cast<Index>(std::min<std::int64_t>(position, shape_.window - 1));
    }
    // Head h's row of token t in a ring.
    T* slot(T* ring, Index h, std::int64_t t) const noexcept {
        const Index W = shape_.window;
        return ring + (h * W + static_cast<Index>(t % W)) * HeadDim;
    }
    // f(place in a ring, n, h·D) for the N tokens from position on and every head.
    template <class F>
    void for_ring_rows(std::int64_t position, Index N, const F& f) const noexcept {
        const Index W = shape_.window;
        for (Index n = 0; n < N; ++n)
            for (Index h = 0; h < shape_.n_heads; ++h)
                f((h * W + static_cast<Index>((position + n) % W)) * HeadDim, n, h * HeadDim);
    }
    void remember_ring(Streams streams, Index N, Arena& memory) const noexcept {
        const State state = bind_state(*this, streams, 0);
        const History kept = take_history(*this, memory, N);
        for_ring_rows(streams.position(0), N, [&](Index place, Index row, Index column) {
            std::copy_n(state.keys + place, HeadDim, kept.keys.row(row) + column);
            std::copy_n(state.values + place, HeadDim, kept.values.row(row) + column);
        });
    }
    void write_angles(Streams streams, Index N, MatrixView<T> angles) const noexcept {
        for (Index b = 0; b < streams.count(); ++b)
            kernels::rotary_table<HeadDim>(streams.position(b), shape_.rope_base,
                                           angles.middle_rows(b * N, N), own_head_dim(shape_));
    }

    // The last count tokens before position of head h, oldest first.
    void copy_past(T* ring, Index h, std::int64_t position, Index count,
                   MatrixView<T> out) const noexcept {
        for (Index i = 0; i < count; ++i)
            std::copy_n(slot(ring, h, position - count + i), HeadDim, out.row(i));
    }
    void put(const Heads& head, Index n) const noexcept {
        std::copy_n(head.part(1).row(n), HeadDim, slot(head.state.keys, head.h, head.position + n));
        std::copy_n(head.part(2).row(n), HeadDim,
                    slot(head.state.values, head.h, head.position + n));
    }
    static void rotate(const Heads& head) noexcept {
        kernels::rotary_apply<HeadDim>(head.part(0), head.angles);
        kernels::rotary_apply<HeadDim>(head.part(1), head.angles);
    }
    void step_head(const Heads& head) const noexcept {
        const Index W = shape_.window;
        for (Index n = 0; n < head.o.rows(); ++n) {
            put(head, n);
            kernels::window_attention_step<HeadDim>(
                head.part(0).row(n),
                MatrixView<T>(head.state.keys + head.h * W * HeadDim, W, HeadDim),
                MatrixView<T>(head.state.values + head.h * W * HeadDim, W, HeadDim),
                std::min<std::int64_t>(head.position + n + 1, W), head.out().row(n));
        }
    }
    void attend_head(const Heads& head, Arena& arena) const noexcept {
        const Index seen = past(head.position) + head.o.rows();
        const Seen s = take_buffers<Seen>(
            arena, [&](auto& buffers, auto& v) { visit_seen(buffers, v, seen); });
        attend(head, head.part(0), s, head.out(), arena, nullptr);
    }
    void record_head(const Heads& head, const Tape& tape, Index b, Arena& arena) const noexcept {
        const Index N = head.o.rows(), first = head.h * HeadDim, seen = past(head.position) + N;
        const auto seen_of = [&](MatrixView<T> all) {
            return all.middle_rows(b * most_seen(N), seen).middle_cols(first, HeadDim);
        };
        const MatrixView<T> queries =
            tape.queries.middle_rows(b * N, N).middle_cols(first, HeadDim);
        for (Index n = 0; n < N; ++n) std::copy_n(head.part(0).row(n), HeadDim, queries.row(n));
        attend(head, queries, {seen_of(tape.keys), seen_of(tape.values)}, MatrixView<T>(head.out()),
               arena, tape.log_sum_exp + (b * shape_.n_heads + head.h) * N);
    }
    // Collects what the tokens see, attends to it, and puts them into the ring.
    void attend(const Heads& head, auto queries, const Seen& seen, auto out, Arena& arena,
                T* log_sum_exp) const noexcept {
        const Index N = head.o.rows(), W = shape_.window, before = past(head.position);
        copy_past(head.state.keys, head.h, head.position, before, seen.keys);
        copy_past(head.state.values, head.h, head.position, before, seen.values);
        for (Index n = 0; n < N; ++n) {
            std::copy_n(head.part(1).row(n), HeadDim, seen.keys.row(before + n));
            std::copy_n(head.part(2).row(n), HeadDim, seen.values.row(before + n));
        }
        kernels::window_attention<HeadDim, ChunkSize>(queries, seen.keys, seen.values, W,
                                                      head.position, out, arena, log_sum_exp);
        for (Index n = std::max<Index>(0, N - W); n < N; ++n) put(head, n);
    }

    void backward_head(Streams streams, Index N, const Tape& tape, const BackwardScratch& s,
                       Streams dstates, Index b, Index h, Arena& arena) const noexcept;

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
