// Attention with grouped keys as published models have it: to the whole past or a window, rotary of
// a part of a head, norms of queries and keys, an output gate.
//
//   [q; k; v] = qkv_proj x (+ bias);  q, k ← rms(·; q_norm), rms(·; k_norm), over each head or all;
//   the first R elements of every head of q and k turn at the absolute position
//   o_th = Σ_s softmax_s(q_th·k_sg/√D) v_sg over s ≤ t, of a window W also s > t − W,  g =
//   ⌊h·Hkv/H⌋ y = o_proj (o ⊙ σ(gate_proj x))
//
// One form: a token's bits do not depend on how many are computed together. State: the rotated keys
// and the values of every token, in pages that grow with the stream, or of the tokens of a window.
// Of the whole past a token reads all, or what BankPolicy::sparse says.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/kernels/rotary/rotary.hpp"
#include "hydralm/layers/full_attention_pages.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/output_gate.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. ChunkSize: tokens of a page. One module for all
// widths: its kernels read them from the views. I = H·D, K = Hkv·D.
template <Real T, Index ChunkSize = 64, class Shape = RuntimeGroupedAttentionShape>
class GroupedAttention {
public:
    using Scalar = T;
    using Past = kernels::FullAttentionPast<T, dynamic, ChunkSize>;

    constexpr GroupedAttention() = default;
    constexpr explicit GroupedAttention(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("grouped_attention");
        v.option("d_model", shape_.d_model);
        v.option("n_heads", shape_.n_heads);
        v.option("n_kv_heads", shape_.n_kv_heads);
        v.option("head_dim", shape_.head_dim);
        v.option("window", shape_.window);
        v.option("rotary_dim", shape_.rotary_dim);
        v.option("rope_base", shape_.rope_base);
        v.option("norm", name(shape_.norm));
        v.option("epsilon", shape_.epsilon);
        v.option("gate", shape_.gate);
        v.option("bias", shape_.bias);
        v.option("chunk_size", ChunkSize);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};          // [I + 2K, d]
        typename Storage::Vector qkv_bias{};          // [I + 2K], when there is one
        typename Storage::Vector q_norm{}, k_norm{};  // [D], or [I] and [K] over all heads
        typename Storage::Matrix gate_proj{};         // [I, d], when gated
        typename Storage::Matrix o_proj{};            // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = shape_.d_model;
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, projected(), d,
                 {inner(), keys(), keys()});
        if (shape_.bias)
            v.vector(p.qkv_bias, "qkv_proj.bias", laws::constant(ParameterRole::other, 0.0),
                     projected());
        if (shape_.norm != QueryKeyNorm::none) {
            v.vector(p.q_norm, "q_norm.weight", laws::norm, over_all() ? inner() : head_dim());
            v.vector(p.k_norm, "k_norm.weight", laws::norm, over_all() ? keys() : head_dim());
        }
        if (shape_.gate) v.matrix(p.gate_proj, "gate_proj.weight", laws::output_gate, inner(), d);
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, d, inner());
    }

    struct State {
        const PageBank* bank;  // rotated keys, values
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.growing(s.bank, full_attention_layout(page(), shape_.n_heads, groups(), shape_.window));
    }

    // Group g of a stream's past; valid until its next reserve.
    Past past(const State& s, Index g) const noexcept {
        return full_attention_past(*s.bank, g, page());
    }

    // sink(name, shape, values): k_cache and v_cache [Hkv, min(position, W), D], oldest first.
    template <class Sink>
    void export_state(const State& s, std::int64_t position, const Sink& sink) const {
        const Index D = head_dim(), N = static_cast<Index>(position),
                    first = shape_.window > 0 ? std::max<Index>(0, N - shape_.window) : 0;
        std::vector<T> values, scratch(static_cast<std::size_t>(page().scratch_elements()));
        for (const bool key : {true, false}) {
            values.clear();
            for (Index g = 0; g < groups(); ++g)
                for (Index t = first; t < N; ++t) {
                    const Index j = t % ChunkSize;
                    if (j == 0) s.bank->expect_page();
                    const auto rows = past(s, g).read(t / ChunkSize, scratch.data());
                    for (Index d = 0; d < D; ++d)
                        values.push_back(key ? rows.keys[d * Past::Page::key_stride + j]
                                             : rows.values[j * page().value_stride() + d]);
                }
            sink(key ? "k_cache" : "v_cache", std::array{groups(), N - first, D}, values);
        }
    }

    // ---- buffers

    struct Scratch {
        MatrixView<T> qkv;     // [B·N, I + 2K]; with no tape
        MatrixView<T> o;       // [B·N, I]; with a tape, behind the output gate
        MatrixView<T> angles;  // [B·N, R], cosines, then sines
        TaskScratch tasks;     // of B·Hkv·parts
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        if (!call.recorded) v.matrix(s.qkv, call.rows(), projected());
        if (!call.recorded || shape_.gate) v.matrix(s.o, call.rows(), inner());
        v.matrix(s.angles, call.rows(), shape_.rotary_dim);
        v.tasks(
            s.tasks, call.streams * groups() * parts(call.tokens),
            attend_workspace_bytes(part_tokens(call.tokens), group_heads(), page(), shape_.window));
    }

    // Keys and values are read from the pages, probabilities computed again: nothing of size N×N.
    struct Tape {
        MatrixView<T> qkv;       // [B·N, I + 2K], as attention reads them
        MatrixView<T> unnormed;  // [B·N, I + K], q and k before their norms, where they have them
        MatrixView<T> o;         // [B·N, I], before the output gate
        MatrixView<T> gate;      // [B·N, I], gate_proj x, when gated
        MatrixView<T> log_sum_exp;  // [B·N, H]
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.qkv, call.rows(), projected());
        if (normed()) v.matrix(t.unnormed, call.rows(), inner() + keys());
        v.matrix(t.o, call.rows(), inner());
        if (shape_.gate) v.matrix(t.gate, call.rows(), inner());
        v.matrix(t.log_sum_exp, call.rows(), shape_.n_heads);
    }

    struct BackwardScratch {
        MatrixView<T> dqkv, dout, angles;  // as in Tape and Scratch
        MatrixView<T> gated, dgate;        // [B·N, I], when gated
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
    // and those of dstates in backward have the pages of every token up to them. Cost:
    // O(B·N·I·(d + min(N + position, W))).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y, Form,
                 Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), G = groups(), cuts = parts(N);
        const Scratch s =
            take_scratch(*this, arena, {.streams = B, .tokens = N, .recorded = records<R>});
        MatrixView<T> qkv = s.qkv, o = s.o, log_sum_exp;
        if constexpr (records<R>) qkv = tape.qkv, o = tape.o, log_sum_exp = tape.log_sum_exp;
        write_angles(streams, N, s.angles);
        if (shape_.bias) kernels::matmul(x, p.qkv_proj, qkv, acc + in(p.qkv_bias.data()), &arena);
        else kernels::matmul(x, p.qkv_proj, qkv, acc, &arena);
        if constexpr (records<R>)
            for (Index r = 0; r < tape.unnormed.rows(); ++r)
                std::copy_n(qkv.row(r), tape.unnormed.cols(), tape.unnormed.row(r));
        if (over_all()) {
            normalise(qkv.middle_cols(0, inner()), p.q_norm);
            normalise(qkv.middle_cols(inner(), keys()), p.k_norm);
        }
        std::int64_t furthest = 0;
        for (Index b = 0; b < B; ++b) furthest = std::max(furthest, streams.position(b));
        parallel_for(
            B * G,
            [&](Index task) {
                const Index b = task / G, g = task % G;
                Arena own = s.tasks.of(task);
                remember(p, *bind_state(*this, streams, b).bank, streams.position(b),
                         qkv.middle_rows(b * N, N), s.angles.middle_rows(b * N, N), g, own);
            },
            B * N * projected() > 65536);
        const std::int64_t seen =
            shape_.window > 0 ? std::min<std::int64_t>(furthest + N, shape_.window) : furthest + N;
        parallel_for(
            B * G * cuts,
            [&](Index task) {
                const Index b = task / cuts / G, g = task / cuts % G,
                            first = task % cuts * N / cuts,
                            count = (task % cuts + 1) * N / cuts - first, row = b * N + first;
                Arena own = s.tasks.of(task);
                const auto sums = log_sum_exp.data() == nullptr
                                      ? log_sum_exp
                                      : sums_of(log_sum_exp.middle_rows(row, count), g);
                attend_to_past<T>(*bind_state(*this, streams, b).bank, g, page(),
                                  streams.position(b) + first,
                                  group_cols(qkv.middle_rows(row, count), g),
                                  group_cols(o.middle_rows(row, count), g), own, sums);
            },
            B * N * inner() * seen > 32768);
        if constexpr (records<R>) {
            if (shape_.gate) {
                kernels::matmul(x, p.gate_proj, tape.gate);
                apply_output_gate<T>(OutputGate::sigmoid, tape.gate, tape.o, o = s.o);
            }
        } else if (shape_.gate) {
            kernels::matmul(x, p.gate_proj, o, in(o)*sigmoid(acc), &arena);
        }
        project(o, p.o_proj, y, write, &arena);
    }

    // As layers/module.hpp says; defined in grouped_attention_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

private:
    constexpr typename Past::Page page() const noexcept {
        return typename Past::Page(shape_.head_dim);
    }
    constexpr Index head_dim() const noexcept { return shape_.head_dim; }
    constexpr Index groups() const noexcept { return shape_.n_kv_heads; }
    constexpr Index group_heads() const noexcept { return shape_.n_heads / groups(); }
    constexpr Index inner() const noexcept { return shape_.n_heads * head_dim(); }
    constexpr Index keys() const noexcept { return groups() * head_dim(); }
    constexpr Index projected() const noexcept { return inner() + 2 * keys(); }
    constexpr bool normed() const noexcept { return shape_.norm != QueryKeyNorm::none; }
    constexpr bool over_all() const noexcept { return shape_.norm == QueryKeyNorm::all_heads; }

    // In which the tokens of a call are cut, for as many threads.
    constexpr Index parts(Index N) const noexcept {
        return std::clamp<Index>(N * group_heads() / 64, 1, 8);
    }

    // Tokens of such a part, at most.
    constexpr Index part_tokens(Index N) const noexcept { return ceil_div(N, parts(N)); }

    // Columns of q, or of anything as wide, that read group g; and of its keys and values in qkv.
    MatrixView<T> group_cols(MatrixView<T> q, Index g) const noexcept {
        return q.middle_cols(g * group_heads() * head_dim(), group_heads() * head_dim());
    }
    MatrixView<T> key_cols(MatrixView<T> qkv, Index g) const noexcept {
        return qkv.middle_cols(inner() + g * head_dim(), head_dim());
    }
    MatrixView<T> value_cols(MatrixView<T> qkv, Index g) const noexcept {
        return qkv.middle_cols(inner() + keys() + g * head_dim(), head_dim());
    }

    MatrixView<T> sums_of(MatrixView<T> log_sum_exp, Index g) const noexcept {
        return log_sum_exp.middle_cols(g * group_heads(), group_heads());
    }

    void write_angles(Streams streams, Index N, MatrixView<T> angles) const noexcept {
        if (shape_.rotary_dim == 0) return;
        for (Index b = 0; b < streams.count(); ++b)
            kernels::rotary_table<dynamic>(streams.position(b), shape_.rope_base,
                                           angles.middle_rows(b * N, N));
    }

    // Slices of the weight's width, each by itself.
    void normalise(MatrixView<T> x, std::span<const T> weight) const noexcept {
        const auto width = static_cast<Index>(weight.size());
        for (Index first = 0; first < x.cols(); first += width) {
            const MatrixView<T> slice = x.middle_cols(first, width);
            kernels::rms_norm(MatrixView<const T>(slice), weight, shape_.epsilon, slice);
        }
    }
    // Norms and rotation of q and k of one group; its keys and values go into the pages.
    template <class P>
    void remember(const P& p, const PageBank& bank, std::int64_t position, MatrixView<T> qkv,
                  MatrixView<const T> angles, Index g, Arena& arena) const noexcept {
        const MatrixView<T> q = group_cols(qkv, g), k = key_cols(qkv, g);
        if (shape_.norm == QueryKeyNorm::each_head) {
            normalise(q, p.q_norm);
            normalise(k, p.k_norm);
        }
        if (shape_.rotary_dim > 0) {
            kernels::rotary_apply<T>(head_dim(), q, angles);
            kernels::rotary_apply<T>(head_dim(), k, angles);
        }
        put_keys_and_values<T>(bank, g, page(), position, k, value_cols(qkv, g), arena);
    }

    void backward_group(Streams streams, Index N, const Tape& tape, const BackwardScratch& s,
                        Streams dstates, Index b, Index g, Arena& arena) const noexcept;
    void normalise_backward(MatrixView<const T> x, std::span<const T> weight, MatrixView<T> dx,
                            std::span<T> dweight, Arena& arena) const noexcept;

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
