// Attention to the whole past with grouped keys: the dense baseline.
//
//   [q; k; v] = qkv_proj x,  RoPE on q and k at the absolute position,
//   o_th = Σ_s softmax_s(q_th·k_sg/√D) v_sg over s ≤ t,  g = ⌊h·Hkv/H⌋,  y = o_proj o
//
// One form: a token's bits do not depend on how many are computed together. State: the rotated keys
// and the values of every token, in pages that grow with the stream, of which a token reads all, or
// what BankPolicy::sparse says.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rotary/rotary.hpp"
#include "hydralm/layers/full_attention_pages.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/shape.hpp"

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
    constexpr Index d_model() const noexcept { return shape_.d_model; }
    // Hkv.
    constexpr Index groups() const noexcept {
        return shape_.n_kv_heads > 0 ? shape_.n_kv_heads : shape_.n_heads;
    }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("full_attention");
        v.option("d_model", shape_.d_model);
        v.option("n_heads", shape_.n_heads);
        v.option("n_kv_heads", groups());
        v.option("head_dim", HeadDim);
        v.option("chunk_size", ChunkSize);
        v.option("rope_base", shape_.rope_base);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};  // [I + 2·Hkv·D, d]
        typename Storage::Matrix o_proj{};    // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, projected(), shape_.d_model,
                 {inner(), groups() * HeadDim, groups() * HeadDim});
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, shape_.d_model, inner());
    }

    struct State {
        const PageBank* bank;  // rotated keys, values
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.growing(s.bank, full_attention_layout(page_, shape_.n_heads, groups()));
    }

    // Group g of a stream's past; valid until its next reserve.
    static Past past(const State& s, Index g) noexcept {
        return full_attention_past(*s.bank, g, page_);
    }

    // sink(name, shape, values): k_cache and v_cache [Hkv, position, D].
    template <class Sink>
    void export_state(const State& s, std::int64_t position, const Sink& sink) const {
        constexpr Index D = HeadDim, C = ChunkSize;
        const auto N = static_cast<Index>(position);
        std::vector<T> values, scratch(static_cast<std::size_t>(page_.scratch_elements()));
        for (const bool key : {true, false}) {
            values.clear();
            for (Index g = 0; g < groups(); ++g)
                for (Index t = 0; t < N; ++t) {
                    const Index j = t % C;
                    if (j == 0) s.bank->expect_page();
                    const auto page = past(s, g).read(t / C, scratch.data());
                    for (Index d = 0; d < D; ++d)
                        values.push_back(key ? page.keys[d * page_.key_stride + j]
                                             : page.values[j * page_.value_stride() + d]);
                }
            sink(key ? "k_cache" : "v_cache", std::array{groups(), N, D}, values);
        }
    }

    // ---- buffers

    // Whatever came before the call.
    struct Scratch {
        MatrixView<T> qkv;     // [B·N, I + 2·Hkv·D]; with no tape
        MatrixView<T> o;       // [B·N, I]; with no tape
        MatrixView<T> angles;  // [B·N, D], cosines, then sines
        TaskScratch tasks;     // of B·Hkv·parts
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        if (!call.recorded) {
            v.matrix(s.qkv, call.rows(), projected());
            v.matrix(s.o, call.rows(), inner());
        }
        v.matrix(s.angles, call.rows(), HeadDim);
        v.tasks(s.tasks, call.streams * groups() * parts(call.tokens),
                attend_workspace_bytes(part_tokens(call.tokens), group_heads(), page_));
    }

    // Keys and values are read from the pages, probabilities computed again: nothing of size N×N.
    // 2I + 2·Hkv·D + H numbers a token.
    struct Tape {
        MatrixView<T> qkv;          // [B·N, I + 2·Hkv·D], q and k rotated
        MatrixView<T> o;            // [B·N, I]
        MatrixView<T> log_sum_exp;  // [B·N, H]
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.qkv, call.rows(), projected());
        v.matrix(t.o, call.rows(), inner());
        v.matrix(t.log_sum_exp, call.rows(), shape_.n_heads);
    }

    struct BackwardScratch {
        MatrixView<T> dqkv, dout, angles;  // as in Tape and Scratch
        TaskScratch tasks;                 // of B·Hkv
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const;

    // What lies behind the position is never read.
    struct History {};
    template <class V>
    constexpr void visit_history(History&, V&, Index) const {}
    void rollback(const State&, std::int64_t, Index, Index, Arena&) const noexcept {}

    // ---- computing

    // As layers/module.hpp says; the banks have memory for the N tokens (StreamMemory::reserve),
    // and those of dstates in backward have the same pages. Cost: O(B·N·I·(d + N + position)).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y, Form,
                 Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), G = groups(), cuts = parts(N), I = inner();
        const Scratch s =
            take_scratch(*this, arena, {.streams = B, .tokens = N, .recorded = records<R>});
        MatrixView<T> qkv = s.qkv, o = s.o, log_sum_exp;
        if constexpr (records<R>) qkv = tape.qkv, o = tape.o, log_sum_exp = tape.log_sum_exp;
        write_angles(streams, N, s.angles);
        kernels::matmul(x, p.qkv_proj, qkv, acc, &arena);
        std::int64_t furthest = 0;
        for (Index b = 0; b < B; ++b) furthest = std::max(furthest, streams.position(b));
        parallel_for(
            B * G,
            [&](Index task) {
                const Index b = task / G, g = task % G;
                Arena own = s.tasks.of(task);
                remember(*bind_state(*this, streams, b).bank, streams.position(b),
                         qkv.middle_rows(b * N, N), s.angles.middle_rows(b * N, N), g, own);
            },
            B * N * projected() > 65536);
        parallel_for(
            B * G * cuts,
            [&](Index task) {
                const Index b = task / cuts / G, g = task / cuts % G,
                            first = task % cuts * N / cuts,
                            count = (task % cuts + 1) * N / cuts - first, row = b * N + first;
                Arena own = s.tasks.of(task);
                const auto lse = log_sum_exp.data() == nullptr
                                     ? log_sum_exp
                                     : log_sum_exp.middle_rows(row, count)
                                           .middle_cols(g * group_heads(), group_heads());
                attend_to_past<T>(*bind_state(*this, streams, b).bank, g, page_,
                                  streams.position(b) + first,
                                  group_cols(qkv.middle_rows(row, count), g),
                                  group_cols(o.middle_rows(row, count), g), own, lse);
            },
            B * N * I * (furthest + N) > 32768);
        project(o, p.o_proj, y, write, &arena);
    }

    // ---- a text that is cut (layers/module.hpp)

    constexpr Index halo() const noexcept { return 0; }
    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const T> x, T*,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {.tokens = N});
        write_angles(streams, N, s.angles);
        kernels::matmul(x, p.qkv_proj, s.qkv, acc, &arena);
        Arena own = s.tasks.of(0);
        for (Index g = 0; g < groups(); ++g)
            remember(*bind_state(*this, streams, 0).bank, streams.position(0), s.qkv, s.angles, g,
                     own);
    }
    void receive(const State& state, Index first, Index end, Arena& arena) const noexcept {
        if (!state.bank->reads_sparsely()) return;
        const Arena::Scope scope(arena);
        T* const decoded = arena.take<T>(page_.scratch_elements());
        for (Index c = first; c < end; ++c) {
            state.bank->expect_page();
            for (Index g = 0; g < groups(); ++g)
                key_bounds(*state.bank, g, page_).summarise(past(state, g), c, decoded);
        }
    }

    // As layers/module.hpp says; defined in full_attention_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

private:
    void write_angles(Streams streams, Index N, MatrixView<T> angles) const noexcept {
        for (Index b = 0; b < streams.count(); ++b)
            kernels::rotary_table<HeadDim>(streams.position(b), shape_.rope_base,
                                           angles.middle_rows(b * N, N), own_head_dim(shape_));
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

    // In which the tokens of a call are cut, for as many threads.
    constexpr Index parts(Index N) const noexcept {
        return std::clamp<Index>(N * group_heads() / 64, 1, 8);
    }

    // Tokens of such a part, at most.
    constexpr Index part_tokens(Index N) const noexcept { return ceil_div(N, parts(N)); }

    // Rotates q and k of one group, and writes its keys and values.
    void remember(const PageBank& bank, std::int64_t position, MatrixView<T> qkv,
                  MatrixView<const T> table, Index g, Arena& arena) const noexcept {
        kernels::rotary_apply<HeadDim>(group_cols(qkv, g), table);
        kernels::rotary_apply<HeadDim>(key_cols(qkv, g), table);
        put_keys_and_values<T>(bank, g, page_, position, key_cols(qkv, g), value_cols(qkv, g),
                               arena);
    }

    void backward_group(Streams streams, Index N, const Tape& tape, const BackwardScratch& s,
                        Streams dstates, Index b, Index g, Arena& arena) const noexcept;

    static constexpr typename Past::Page page_{};

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
