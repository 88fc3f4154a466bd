// Attention to the whole past with grouped keys: the dense baseline.
//
//   [q; k; v] = qkv_proj x,  RoPE on q and k at the absolute position,
//   o_th = Σ_s softmax_s(q_th·k_sg/√D) v_sg over s ≤ t,  g = ⌊h·Hkv/H⌋,  y = o_proj o
//
// One form: a token's bits do not depend on how many are computed together. State: the rotated keys
// and the values of every token, in pages that grow with the stream.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/full_attention/full_attention.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rotary/rotary.hpp"
#include "hydralm/layers/parameters.hpp"
#include "hydralm/layers/shape.hpp"
#include "hydralm/state/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. HeadDim: D. ChunkSize: tokens of a page, which the
// kernel takes at once; states of another chunk size are others. Shape: FullShape or
// RuntimeFullShape.
template <Real T, Index HeadDim, Index ChunkSize = 64, class Shape = RuntimeFullShape>
class FullAttention {
    static_assert(FullShaped<Shape>,
                  "hydralm: shape: must be one of this module's; give FullAttention a FullShape or "
                  "a RuntimeFullShape");
    static_assert(
        HeadDim >= 4 && HeadDim % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    static_assert(ChunkSize >= 1, "hydralm: chunk_size: must be positive; 64 is usual");

public:
    using Scalar = T;
    using Past = kernels::FullAttentionPast<T, HeadDim, ChunkSize>;
    static constexpr Index head_dim = HeadDim;

    constexpr FullAttention() = default;
    constexpr explicit FullAttention(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    // Hkv.
    constexpr Index groups() const noexcept {
        return shape_.n_kv_heads > 0 ? shape_.n_kv_heads : shape_.n_heads;
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};  // [I + 2·Hkv·D, d]
        typename Storage::Matrix o_proj{};    // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.qkv_proj, "qkv_proj.weight", ParameterKind::projection, projected(),
                 shape_.d_model, static_cast<int>(shape_.n_heads / groups() + 2));
        v.matrix(p.o_proj, "o_proj.weight", ParameterKind::residual_projection, shape_.d_model,
                 inner());
    }

    struct State {
        const PageBank* bank;  // rotated keys, values
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        const auto bytes = [this](BankFormat format) {
            return groups() * Past::Page::bytes(format);
        };
        v.growing(s.bank,
                  {.chunk_tokens = ChunkSize,
                   .kinds = {PageKind{.chunks = 1,
                                      .kept = Kept::whole,
                                      .bytes = {bytes(BankFormat::exact), bytes(BankFormat::bf16),
                                                bytes(BankFormat::int8)}}},
                   .parts = groups()});
    }

    // Group g of a stream's past; valid until its next reserve.
    static Past past(const State& s, Index g) noexcept {
        return {s.bank->pages(0), s.bank->policy().format, g};
    }

    // sink(name, shape, values): k_cache and v_cache [Hkv, position, D].
    template <class Sink>
    void export_state(const State& s, std::int64_t position, const Sink& sink) const {
        constexpr Index D = HeadDim, C = ChunkSize;
        const auto N = static_cast<Index>(position);
        std::vector<T> values, scratch(static_cast<std::size_t>(Past::Page::scratch_elements));
        for (const bool key : {true, false}) {
            values.clear();
            for (Index g = 0; g < groups(); ++g)
                for (Index t = 0; t < N; ++t) {
                    const Index j = t % C;
                    if (j == 0) s.bank->expect_page();
                    const auto page = past(s, g).read(t / C, scratch.data());
                    for (Index d = 0; d < D; ++d)
                        values.push_back(key ? page.keys[d * Past::Page::key_stride + j]
                                             : page.values[j * Past::Page::value_stride + d]);
                }
            sink(key ? "k_cache" : "v_cache", std::array{groups(), N, D}, values);
        }
    }

    // Scratch for B sequences of N tokens, whatever came before.
    constexpr Index workspace_bytes(Index B, Index N, Form = Form::parallel) const noexcept {
        const Index rows = B * N;
        return arena_bytes<T>(rows * projected()) + arena_bytes<T>(rows * inner()) +
               arena_bytes<T>(rows * HeadDim) + B * groups() * parts(N) * attend_scratch;
    }

    // As GatedDeltaNet::forward; the banks have memory for the N tokens (StreamMemory::reserve).
    // Cost: O(B·N·I·(d + N + position)).
    void forward(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                 MatrixView<const T> x, MatrixView<T> y, Form, Write write,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Index rows = streams.count() * N;
        const MatrixView<T> qkv(arena.take<T>(rows * projected()), rows, projected());
        const MatrixView<T> o(arena.take<T>(rows * inner()), rows, inner());
        mix(p, streams, N, x, qkv, o, {}, arena);
        if (write == Write::add) kernels::matmul(o, p.o_proj, y, kernels::Add{});
        else kernels::matmul(o, p.o_proj, y, kernels::Assign{});
    }

    // What lies behind the position is never read.
    constexpr Index history_bytes(Index) const noexcept { return 0; }
    void rollback(const State&, std::int64_t, Index, Index, Arena&) const noexcept {}

    // From x to o [B·N, I]. Left behind: qkv [B·N, I + 2·Hkv·D], q and k rotated; log_sum_exp [B·N,
    // H], unless empty; keys and values in the pages.
    void mix(const Parameters<PackedStorage<T>>& p, Streams streams, Index N, MatrixView<const T> x,
             MatrixView<T> qkv, MatrixView<T> o, MatrixView<T> log_sum_exp,
             Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), G = groups(), P = parts(N), I = inner();
        const MatrixView<T> table = angles(streams, N, arena);
        std::byte* const scratch = arena.take<std::byte>(B * G * P * attend_scratch);
        kernels::matmul(x, p.qkv_proj, qkv, kernels::Assign{});
        std::int64_t furthest = 0;
        for (Index b = 0; b < B; ++b) furthest = std::max(furthest, streams.position(b));
        parallel_for(
            B * G,
            [&](Index task) {
                const Index b = task / G, g = task % G;
                remember(past(bind_state(*this, streams, b), g), streams.position(b),
                         qkv.middle_rows(b * N, N), table.middle_rows(b * N, N), g);
            },
            B * N * projected() > 65536);
        parallel_for(
            B * G * P,
            [&](Index task) {
                const Index b = task / P / G, g = task / P % G, first = task % P * N / P,
                            count = (task % P + 1) * N / P - first, row = b * N + first;
                Arena own(
                    {scratch + task * attend_scratch, static_cast<std::size_t>(attend_scratch)});
                const auto lse = log_sum_exp.data() == nullptr
                                     ? log_sum_exp
                                     : log_sum_exp.middle_rows(row, count)
                                           .middle_cols(g * group_heads(), group_heads());
                kernels::full_attention<HeadDim, ChunkSize, T>(
                    group_cols(qkv.middle_rows(row, count), g), streams.position(b) + first,
                    past(bind_state(*this, streams, b), g),
                    group_cols(o.middle_rows(row, count), g), own, lse);
            },
            B * N * I * (furthest + N) > 32768);
    }

    // Cosines, then sines of every token [B·N, D].
    MatrixView<T> angles(Streams streams, Index N, Arena& arena) const noexcept {
        const Index B = streams.count();
        const MatrixView<T> table(arena.take<T>(B * N * HeadDim), B * N, HeadDim);
        for (Index b = 0; b < B; ++b)
            kernels::rotary_table<HeadDim>(streams.position(b), shape_.rope_base,
                                           table.middle_rows(b * N, N));
        return table;
    }

    // Columns of q, or of anything as wide, that read group g; and of its keys and values in qkv.
    MatrixView<T> group_cols(MatrixView<T> q, Index g) const noexcept {
        return q.middle_cols(g * group_heads() * HeadDim, group_heads() * HeadDim);
    }
    MatrixView<T> key_cols(MatrixView<T> qkv, Index g) const noexcept {
        return qkv.middle_cols(inner() + g * HeadDim, HeadDim);
    }
    MatrixView<T> value_cols(MatrixView<T> qkv, Index g) const noexcept {
        return qkv.middle_cols(inner() + (groups() + g) * HeadDim, HeadDim);
    }
    constexpr Index inner() const noexcept { return shape_.n_heads * HeadDim; }
    constexpr Index group_heads() const noexcept { return shape_.n_heads / groups(); }
    constexpr Index projected() const noexcept { return inner() + 2 * groups() * HeadDim; }

private:
    static constexpr Index attend_scratch =
        kernels::full_attention_workspace_bytes<T, HeadDim, ChunkSize>();

    // In which the tokens of a call are cut, for as many threads.
    constexpr Index parts(Index N) const noexcept {
        return std::clamp<Index>(N * group_heads() / 64, 1, 8);
    }

    // Rotates q and k of one group, and writes its keys and values.
    void remember(const Past& past, std::int64_t position, MatrixView<T> qkv,
                  MatrixView<const T> table, Index g) const noexcept {
        kernels::rotary_apply<HeadDim>(group_cols(qkv, g), table);
        kernels::rotary_apply<HeadDim>(key_cols(qkv, g), table);
        for (Index n = 0; n < qkv.rows(); ++n)
            past.put(position + n, key_cols(qkv, g).row(n), value_cols(qkv, g).row(n));
    }

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
