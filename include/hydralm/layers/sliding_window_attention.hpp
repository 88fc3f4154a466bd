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
#include "hydralm/layers/parameters.hpp"
#include "hydralm/layers/shape.hpp"
#include "hydralm/layers/stream_state.hpp"

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

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};  // [3I, d]
        typename Storage::Matrix o_proj{};    // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.qkv_proj, "qkv_proj.weight", ParameterKind::projection, 3 * inner(),
                 shape_.d_model, 3);
        v.matrix(p.o_proj, "o_proj.weight", ParameterKind::residual_projection, shape_.d_model,
                 inner());
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
                copy_past(key ? s.keys : s.values, h, position, kept, values.data() + h * kept * D);
            sink(key ? "k_cache" : "v_cache", std::array{H, kept, D}, values);
        }
    }

    // Scratch for B sequences of N tokens.
    constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        const Index rows = B * N, I = inner();
        return arena_bytes<T>(rows * 3 * I) + arena_bytes<T>(rows * I) +
               arena_bytes<T>(rows * HeadDim) + B * shape_.n_heads * head_scratch(N, form);
    }

    // As GatedDeltaNet::forward. Cost: O(B·N·(d·I + I·min(N + position, W))).
    void forward(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                 MatrixView<const T> x, MatrixView<T> y, Form form, Write write,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), rows = B * N, H = shape_.n_heads, I = inner(),
                    scratch_size = head_scratch(N, form);
        const MatrixView<T> qkv(arena.take<T>(rows * 3 * I), rows, 3 * I);
        const MatrixView<T> o(arena.take<T>(rows * I), rows, I);
        const MatrixView<T> angles(arena.take<T>(rows * HeadDim), rows,
                                   HeadDim);  // cosines, then sines
        std::byte* const scratch = arena.take<std::byte>(B * H * scratch_size);

        if (Arena* const history = streams.history()) {
            const State state = bind_state(*this, streams, 0);
            T* const kept = history->template take<T>(2 * N * I);
            for_ring_rows(streams.position(0), N, [&](Index slot, Index row) {
                std::copy_n(state.keys + slot, HeadDim, kept + row);
                std::copy_n(state.values + slot, HeadDim, kept + N * I + row);
            });
        }
        kernels::matmul(x, p.qkv_proj, qkv, kernels::Assign{});
        for (Index b = 0; b < B; ++b)
            kernels::rotary_table<HeadDim>(streams.position(b), shape_.rope_base,
                                           angles.middle_rows(b * N, N));
        std::int64_t furthest = 0;
        for (Index b = 0; b < B; ++b) furthest = std::max(furthest, streams.position(b));
        parallel_for(
            B * H,
            [&](Index task) {
                const Index b = task / H, h = task % H;
                const auto state = bind_state(*this, streams, b);
                Arena own({scratch + task * scratch_size, static_cast<std::size_t>(scratch_size)});
                attend_head(state, streams.position(b), qkv.middle_rows(b * N, N),
                            angles.middle_rows(b * N, N), o.middle_rows(b * N, N), h, form, own);
            },
            rows * I * std::min<std::int64_t>(furthest + N, shape_.window) > 32768);
        if (write == Write::add) kernels::matmul(o, p.o_proj, y, kernels::Add{});
        else kernels::matmul(o, p.o_proj, y, kernels::Assign{});
    }

    // As GatedDeltaNet's, for N ≤ W: the rows of the ring that the tokens overwrite.
    constexpr Index history_bytes(Index N) const noexcept {
        return arena_bytes<T>(2 * N * inner());
    }
    void rollback(const State& state, std::int64_t position, Index N, Index kept,
                  Arena& history) const noexcept {
        const Index I = inner();
        const T* const before = history.take<T>(2 * N * I);
        for_ring_rows(position, N, [&](Index slot, Index row) {
            if (row < kept * I) return;
            std::copy_n(before + row, HeadDim, state.keys + slot);
            std::copy_n(before + N * I + row, HeadDim, state.values + slot);
        });
    }

private:
    // f(place in a ring, n·I + h·D) for the N tokens from position on and every head.
    template <class F>
    void for_ring_rows(std::int64_t position, Index N, const F& f) const noexcept {
        const Index W = shape_.window;
        for (Index n = 0; n < N; ++n)
            for (Index h = 0; h < shape_.n_heads; ++h)
                f((h * W + static_cast<Index>((position + n) % W)) * HeadDim,
                  n * inner() + h * HeadDim);
    }
    constexpr Index inner() const noexcept { return shape_.n_heads * HeadDim; }

    // The recurrent form reads the ring where it is.
    constexpr Index head_scratch(Index N, Form form) const noexcept {
        if (form == Form::recurrent) return 0;
        return 2 * arena_bytes<T>((shape_.window - 1 + N) * HeadDim) +
               round_up(kernels::window_attention_workspace_bytes<T, HeadDim, ChunkSize>(),
                        static_cast<Index>(alignment));
    }

    // The last count tokens before position of head h, oldest first.
    void copy_past(const T* ring, Index h, std::int64_t position, Index count,
                   T* out) const noexcept {
        const Index W = shape_.window;
        for (Index i = 0; i < count; ++i)
            std::copy_n(ring + (h * W + (position - count + i) % W) * HeadDim, HeadDim,
                        out + i * HeadDim);
    }

    void attend_head(const State& state, std::int64_t position, MatrixView<T> qkv,
                     MatrixView<const T> angles, MatrixView<T> o, Index h, Form form,
                     Arena& arena) const noexcept {
        const Index I = inner(), N = qkv.rows(), W = shape_.window;
        const auto q = qkv.template middle_cols<HeadDim>(h * HeadDim);
        const auto k = qkv.template middle_cols<HeadDim>(I + h * HeadDim);
        const auto v = qkv.template middle_cols<HeadDim>(2 * I + h * HeadDim);
        const auto out = o.template middle_cols<HeadDim>(h * HeadDim);
        kernels::rotary_apply<HeadDim>(q, angles);
        kernels::rotary_apply<HeadDim>(k, angles);
        T* const ring_keys = state.keys + h * W * HeadDim;
        T* const ring_values = state.values + h * W * HeadDim;
        const auto remember = [&](Index n) {
            const Index slot = (position + n) % W;
            std::copy_n(k.row(n), HeadDim, ring_keys + slot * HeadDim);
            std::copy_n(v.row(n), HeadDim, ring_values + slot * HeadDim);
        };
        if (form == Form::recurrent) {
            for (Index n = 0; n < N; ++n) {
                remember(n);
                kernels::window_attention_step<HeadDim>(
                    q.row(n), MatrixView<T>(ring_keys, W, HeadDim),
                    MatrixView<T>(ring_values, W, HeadDim),
                    std::min<std::int64_t>(position + n + 1, W), out.row(n));
            }
            return;
        }
        const Index past = std::min<std::int64_t>(position, W - 1);
        const MatrixView<T, HeadDim> keys(arena.take<T>((past + N) * HeadDim), past + N);
        const MatrixView<T, HeadDim> values(arena.take<T>((past + N) * HeadDim), past + N);
        copy_past(state.keys, h, position, past, keys.data());
        copy_past(state.values, h, position, past, values.data());
        for (Index n = 0; n < N; ++n) {
            std::copy_n(k.row(n), HeadDim, keys.row(past + n));
            std::copy_n(v.row(n), HeadDim, values.row(past + n));
        }
        kernels::window_attention<HeadDim, ChunkSize>(q, keys, values, W, position, out, arena);
        for (Index n = std::max<Index>(0, N - W); n < N; ++n) remember(n);
    }

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
