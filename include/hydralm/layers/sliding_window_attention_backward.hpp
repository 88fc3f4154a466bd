// Gradient of sliding-window attention. Kept: rotated queries, keys and values with what lies in
// the window before them, the output and ln Σ e^score; probabilities are computed again, tile by
// tile. Nothing of size N×N or N×W.
#pragma once

#include "hydralm/layers/sliding_window_attention.hpp"
#include "hydralm/layers/training.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says. Tape: 4I + H numbers a token, and 2I(W − 1) a stream.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
class Training<SlidingWindowAttention<T, HeadDim, ChunkSize, Shape>> {
public:
    using Module = SlidingWindowAttention<T, HeadDim, ChunkSize, Shape>;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> queries;  // [B·N, I], rotated
        MatrixView<T> keys;     // [B·(W−1+N), I], rotated; a stream's past, then its N tokens
        MatrixView<T> values;   // [B·(W−1+N), I]
        MatrixView<T> o;        // [B·N, I]
        T* log_sum_exp;         // [B, H, N]
    };

    constexpr explicit Training(const Module& module) : module_(module) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        return 2 * arena_bytes<T>(B * N * inner()) + 2 * arena_bytes<T>(B * seen(N) * inner()) +
               arena_bytes<T>(B * N * shape().n_heads);
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        return arena_bytes<T>(B * N * 3 * inner()) + arena_bytes<T>(B * N * inner()) +
               arena_bytes<T>(B * N * HeadDim) + B * shape().n_heads * head_scratch(N);
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                MatrixView<const T> x, MatrixView<T> y, Write write, Tape& tape, Arena& kept,
                Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, H = shape().n_heads, I = inner(),
                    size = head_scratch(N);
        tape.queries = detail::take_matrix<T>(kept, rows, I);
        tape.keys = detail::take_matrix<T>(kept, B * seen(N), I);
        tape.values = detail::take_matrix<T>(kept, B * seen(N), I);
        tape.o = detail::take_matrix<T>(kept, rows, I);
        tape.log_sum_exp = kept.take<T>(rows * H);
        const auto qkv = detail::take_matrix<T>(scratch, rows, 3 * I);
        const auto table = angles(streams, N, scratch);
        std::byte* const own = scratch.take<std::byte>(B * H * size);
        kernels::matmul(x, p.qkv_proj, qkv, kernels::Assign{});
        parallel_for(B * H, [&](Index task) {
            Arena arena({own + task * size, static_cast<std::size_t>(size)});
            record_head(streams, N, qkv, table, tape, task / H, task % H, arena);
        });
        detail::project<T>(tape.o, p.o_proj, y, write);
    }

    void backward(const Parameters<PackedStorage<T>>&,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<const T> x, MatrixView<const T> dy,
                  MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients, Streams dstates,
                  Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, H = shape().n_heads, I = inner(),
                    size = head_scratch(N);
        const auto dqkv = detail::take_matrix<T>(scratch, rows, 3 * I);
        const auto dout = detail::take_matrix<T>(scratch, rows, I);
        const auto table = angles(streams, N, scratch);
        std::byte* const own = scratch.take<std::byte>(B * H * size);
        kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
        kernels::matmul(dy, transposed.o_proj, dout, kernels::Assign{});
        parallel_for(B * H, [&](Index task) {
            Arena arena({own + task * size, static_cast<std::size_t>(size)});
            backward_head(streams, N, dout, table, tape, dqkv, dstates, task / H, task % H, arena);
        });
        kernels::matmul_gradient(dqkv, x, gradients.qkv_proj);
        kernels::matmul(dqkv, transposed.qkv_proj, dx, kernels::Assign{});
    }

private:
    constexpr const Shape& shape() const noexcept { return module_.shape(); }
    constexpr Index inner() const noexcept { return shape().n_heads * HeadDim; }
    // The most keys a call of N tokens sees.
    constexpr Index seen(Index N) const noexcept { return shape().window - 1 + N; }
    constexpr Index past(std::int64_t position) const noexcept {
        return static_cast<Index>(std::min<std::int64_t>(position, shape().window - 1));
    }
    constexpr Index head_scratch(Index N) const noexcept {
        return 2 * arena_bytes<T>(seen(N) * HeadDim) +
               round_up(
                   std::max(
                       kernels::window_attention_workspace_bytes<T, HeadDim, ChunkSize>(),
                       kernels::window_attention_backward_workspace_bytes<T, HeadDim, ChunkSize>()),
                   static_cast<Index>(alignment));
    }
    // Head h's row of token t in the state's ring.
    T* slot(T* ring, Index h, std::int64_t t) const noexcept {
        const Index W = shape().window;
        return ring + (h * W + static_cast<Index>(t % W)) * HeadDim;
    }
    MatrixView<T> angles(Streams streams, Index N, Arena& scratch) const noexcept {
        const auto table = detail::take_matrix<T>(scratch, streams.count() * N, HeadDim);
        for (Index b = 0; b < streams.count(); ++b)
            kernels::rotary_table<HeadDim>(streams.position(b), shape().rope_base,
                                           table.middle_rows(b * N, N));
        return table;
    }

    void record_head(Streams streams, Index N, MatrixView<T> qkv, MatrixView<T> table,
                     const Tape& tape, Index b, Index h, Arena& arena) const noexcept {
        const Index W = shape().window, I = inner(), first = h * HeadDim;
        const std::int64_t position = streams.position(b);
        const Index before = past(position);
        const auto state = bind_state(module_, streams, b);
        const auto head = [&](Index part) {
            return qkv.middle_rows(b * N, N).template middle_cols<HeadDim>(part * I + first);
        };
        kernels::rotary_apply<HeadDim>(head(0), table.middle_rows(b * N, N));
        kernels::rotary_apply<HeadDim>(head(1), table.middle_rows(b * N, N));
        const auto queries = tape.queries.middle_rows(b * N, N).middle_cols(first, HeadDim);
        const auto keys =
            tape.keys.middle_rows(b * seen(N), before + N).middle_cols(first, HeadDim);
        const auto values =
            tape.values.middle_rows(b * seen(N), before + N).middle_cols(first, HeadDim);
        for (Index i = 0; i < before; ++i) {
            std::copy_n(slot(state.keys, h, position - before + i), HeadDim, keys.row(i));
            std::copy_n(slot(state.values, h, position - before + i), HeadDim, values.row(i));
        }
        for (Index n = 0; n < N; ++n) {
            std::copy_n(head(0).row(n), HeadDim, queries.row(n));
            std::copy_n(head(1).row(n), HeadDim, keys.row(before + n));
            std::copy_n(head(2).row(n), HeadDim, values.row(before + n));
        }
        kernels::window_attention<HeadDim, ChunkSize>(
            queries, keys, values, W, position,
            tape.o.middle_rows(b * N, N).middle_cols(first, HeadDim), arena,
            tape.log_sum_exp + (b * shape().n_heads + h) * N);
        for (Index n = std::max<Index>(0, N - W); n < N; ++n) {
            std::copy_n(keys.row(before + n), HeadDim, slot(state.keys, h, position + n));
            std::copy_n(values.row(before + n), HeadDim, slot(state.values, h, position + n));
        }
    }

    void backward_head(Streams streams, Index N, MatrixView<T> dout, MatrixView<T> table,
                       const Tape& tape, MatrixView<T> dqkv, Streams dstates, Index b, Index h,
                       Arena& arena) const noexcept {
        const Index W = shape().window, I = inner(), first = h * HeadDim;
        const std::int64_t position = streams.position(b);
        const Index before = past(position);
        const auto dstate = bind_state(module_, dstates, b);
        const auto head = [&](Index part) {
            return dqkv.middle_rows(b * N, N).template middle_cols<HeadDim>(part * I + first);
        };
        const auto rows_of = [&](MatrixView<T> all) {
            return all.middle_rows(b * N, N).middle_cols(first, HeadDim);
        };
        const auto seen_of = [&](MatrixView<T> all) {
            return all.middle_rows(b * seen(N), before + N).middle_cols(first, HeadDim);
        };
        const auto dkeys = detail::take_matrix<T>(arena, before + N, HeadDim);
        const auto dvalues = detail::take_matrix<T>(arena, before + N, HeadDim);
        kernels::window_attention_backward<HeadDim, ChunkSize>(
            rows_of(tape.queries), seen_of(tape.keys), seen_of(tape.values), W, position,
            rows_of(tape.o), tape.log_sum_exp + (b * shape().n_heads + h) * N, rows_of(dout),
            head(0), dkeys, dvalues, arena);
        // The ring's last tokens are ours: their gradient joins the tokens', and what they replaced
        // has none.
        const auto through_ring = [&](T* ring, MatrixView<T> gradient) {
            for (Index n = std::max<Index>(0, N - W); n < N; ++n) {
                T* const kept = slot(ring, h, position + n);
                simd::map<T>(
                    HeadDim, gradient.row(before + n), [](auto a, auto c) { return a + c; },
                    gradient.row(before + n), kept);
                std::fill_n(kept, HeadDim, T(0));
            }
            for (Index i = 0; i < before; ++i) {
                T* const kept = slot(ring, h, position - before + i);
                simd::map<T>(
                    HeadDim, kept, [](auto a, auto c) { return a + c; }, kept, gradient.row(i));
            }
        };
        through_ring(dstate.keys, dkeys);
        through_ring(dstate.values, dvalues);
        for (Index n = 0; n < N; ++n) {
            std::copy_n(dkeys.row(before + n), HeadDim, head(1).row(n));
            std::copy_n(dvalues.row(before + n), HeadDim, head(2).row(n));
        }
        kernels::rotary_apply_inverse<HeadDim>(head(0), table.middle_rows(b * N, N));
        kernels::rotary_apply_inverse<HeadDim>(head(1), table.middle_rows(b * N, N));
    }

    [[no_unique_address]] Module module_;
};

}  // namespace HYDRALM_NAMESPACE
