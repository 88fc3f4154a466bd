// Gradient of attention to the whole past. Kept: rotated queries with the output and ln Σ e^score;
// keys and values are read from the pages, probabilities computed again. Nothing of size N×N.
#pragma once

#include "hydralm/layers/full_attention.hpp"
#include "hydralm/layers/training.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says; the banks of streams still hold what record put there, those of
// dstates have the same pages. Tape: 2I + 2·Hkv·D + H numbers a token.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
class Training<FullAttention<T, HeadDim, ChunkSize, Shape>> {
public:
    using Module = FullAttention<T, HeadDim, ChunkSize, Shape>;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> qkv;          // [B·N, I + 2·Hkv·D], q and k rotated
        MatrixView<T> o;            // [B·N, I]
        MatrixView<T> log_sum_exp;  // [B·N, H]
    };

    constexpr explicit Training(const Module& module) : module_(module) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        const Index rows = B * N;
        return arena_bytes<T>(rows * module_.projected()) + arena_bytes<T>(rows * module_.inner()) +
               arena_bytes<T>(rows * module_.shape().n_heads);
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        const Index rows = B * N;
        return std::max(module_.workspace_bytes(B, N), arena_bytes<T>(rows * module_.projected()) +
                                                           arena_bytes<T>(rows * module_.inner()) +
                                                           arena_bytes<T>(rows * HeadDim) +
                                                           B * module_.groups() * group_scratch);
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                MatrixView<const T> x, MatrixView<T> y, Write write, Tape& tape, Arena& kept,
                Arena& scratch) const noexcept {
        const Index rows = streams.count() * N;
        tape.qkv = detail::take_matrix<T>(kept, rows, module_.projected());
        tape.o = detail::take_matrix<T>(kept, rows, module_.inner());
        tape.log_sum_exp = detail::take_matrix<T>(kept, rows, module_.shape().n_heads);
        module_.mix(p, streams, N, x, tape.qkv, tape.o, tape.log_sum_exp, scratch);
        detail::project<T>(tape.o, p.o_proj, y, write);
    }

    void backward(const Parameters<PackedStorage<T>>&,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<const T> x, MatrixView<const T> dy,
                  MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients, Streams dstates,
                  Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, G = module_.groups();
        const auto dqkv = detail::take_matrix<T>(scratch, rows, module_.projected());
        const auto dout = detail::take_matrix<T>(scratch, rows, module_.inner());
        const auto table = module_.angles(streams, N, scratch);
        std::byte* const own = scratch.take<std::byte>(B * G * group_scratch);
        kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
        kernels::matmul(dy, transposed.o_proj, dout, kernels::Assign{});
        parallel_for(B * G, [&](Index task) {
            Arena arena({own + task * group_scratch, static_cast<std::size_t>(group_scratch)});
            backward_group(streams, N, dout, table, tape, dqkv, dstates, task / G, task % G, arena);
        });
        kernels::matmul_gradient(dqkv, x, gradients.qkv_proj);
        kernels::matmul(dqkv, transposed.qkv_proj, dx, kernels::Assign{});
    }

private:
    static constexpr Index group_scratch =
        kernels::full_attention_backward_workspace_bytes<T, HeadDim, ChunkSize>();

    void backward_group(Streams streams, Index N, MatrixView<T> dout, MatrixView<T> table,
                        const Tape& tape, MatrixView<T> dqkv, Streams dstates, Index b, Index g,
                        Arena& arena) const noexcept {
        const std::int64_t position = streams.position(b);
        const auto rows = [&](MatrixView<T> all) { return all.middle_rows(b * N, N); };
        const auto past = Module::past(bind_state(module_, streams, b), g),
                   dpast = Module::past(bind_state(module_, dstates, b), g);
        const MatrixView<T> dq = module_.group_cols(rows(dqkv), g),
                            dk = module_.key_cols(rows(dqkv), g),
                            dv = module_.value_cols(rows(dqkv), g);
        kernels::full_attention_backward<HeadDim, ChunkSize, T>(
            module_.group_cols(rows(tape.qkv), g), position, past,
            module_.group_cols(rows(tape.o), g),
            rows(tape.log_sum_exp).middle_cols(g * module_.group_heads(), module_.group_heads()),
            module_.group_cols(rows(dout), g), dq, dpast, arena);
        kernels::take_key_value_gradients<HeadDim, ChunkSize, T>(N, position, dpast, dk, dv);
        kernels::rotary_apply_inverse<HeadDim>(dq, rows(table));
        kernels::rotary_apply_inverse<HeadDim>(dk, rows(table));
    }

    [[no_unique_address]] Module module_;
};

}  // namespace HYDRALM_NAMESPACE
