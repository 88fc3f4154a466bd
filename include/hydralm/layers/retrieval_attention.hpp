// Retrieval attention: exact attention inside the few past chunks a token selects, and its own.
//
//   [q; k; v] = conv(qkv_proj x),  per head k̂ = k/‖k‖, q̂ = τ q/‖q‖,  γ_j = σ(w·8k̂_j + b − 2),
//   s_c = Σ_{j∈c} γ_j k̂_j,  p = softmax({λ q̂_t·s_c : c kept} ∪ {ℓ}),
//   o_t = Σ_c p_c softmax-attention(q̂_t; chunk c),  y = o_proj o
//
// One form: a token's bits do not depend on how many are computed together. State: the last inputs
// of the convolution, and a bank of keys, values and summaries, which grows with the stream.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/retrieval/retrieval.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/kernels/short_conv/short_conv.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/retrieval_pages.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. HeadDim: D. ChunkSize: C, tokens a chunk, or the
// most that the shape may say. Shape: RetrievalShape or RuntimeRetrievalShape.
template <Real T, Index HeadDim, Index ChunkSize = 32, class Shape = RuntimeRetrievalShape>
class RetrievalAttention {
    static_assert(RetrievalShaped<Shape>,
                  "hydralm: shape: must be one of this module's; give RetrievalAttention a "
                  "RetrievalShape or a RuntimeRetrievalShape");
    static_assert(
        HeadDim >= 4 && HeadDim % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    static_assert(ChunkSize >= 1, "hydralm: retrieval_chunk_size: must be positive; 32 is usual");

public:
    using Scalar = T;
    // Whether the shape says how many tokens a chunk has, at most ChunkSize.
    static constexpr bool open_chunk = requires(const Shape& s) { s.chunk_size; };
    using Head = kernels::RetrievalHead<T, HeadDim, ChunkSize, open_chunk>;
    using Selection = kernels::RetrievalSelection<T>;
    static constexpr Index head_dim = HeadDim;

    constexpr RetrievalAttention() = default;
    constexpr explicit RetrievalAttention(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }
    constexpr Index chunk_size() const noexcept {
        if constexpr (open_chunk)
            if (shape_.chunk_size > 0) return shape_.chunk_size;
        return ChunkSize;
    }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("retrieval_attention");
        v.option("d_model", shape_.d_model);
        v.option("n_heads", shape_.n_heads);
        v.option("head_dim", HeadDim);
        v.option("chunk_size", chunk_size());
        v.option("top_k", shape_.top_k);
        v.option("conv_kernel", shape_.conv_kernel);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};     // [3I, d]
        typename Storage::Taps conv{};           // 3I channels, K taps
        typename Storage::Vector temperature{};  // [H], ln τ
        typename Storage::Vector gate{};         // [H, D], w
        typename Storage::Vector gate_bias{};    // [H], b
        typename Storage::Vector route_scale{};  // [H], ln λ
        typename Storage::Vector local_logit{};  // [H], ℓ
        typename Storage::Matrix o_proj{};       // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = shape_.d_model, H = shape_.n_heads, I = inner();
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, 3 * I, d, 3);
        v.taps(p.conv, "short_conv.conv.weight", laws::convolution, 3 * I, shape_.conv_kernel);
        v.vector(p.temperature, "temperature", temperature_law, H);
        v.table(p.gate, "gate.weight", gate_law, H, HeadDim);
        v.vector(p.gate_bias, "gate.bias", router_law, H);
        v.vector(p.route_scale, "route_scale", router_law, H);
        v.vector(p.local_logit, "local_logit", router_law, H);
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, d, I);
    }

    struct State {
        T* conv_cache;         // [K−1, 3I], the last inputs of the convolution, oldest first
        const PageBank* bank;  // unit keys, values, gates, summaries
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.array(s.conv_cache, (shape_.conv_kernel - 1) * 3 * inner());
        v.growing(s.bank, retrieval_layout<Head>(shape_.n_heads, shape_.top_k, chunk_size()));
    }

    // sink(name, shape, values): conv_cache [3I, K−1], keys and values [H, position, D], summaries
    // [H, position/C, D]; of a bounded bank those that are there, the last ones.
    template <class Sink>
    void export_state(const State& s, std::int64_t position, const Sink& sink) const {
        const Index H = shape_.n_heads, D = HeadDim, channels = 3 * inner(),
                    kept = shape_.conv_kernel - 1, N = static_cast<Index>(position),
                    C = chunk_size(), m = N / C;
        const PastBounds bounds = s.bank->policy().bounds();
        const Index exact = bounds.first_exact(m) * C;
        std::vector<T> values(static_cast<std::size_t>(channels * kept));
        for (Index c = 0; c < channels; ++c)
            for (Index j = 0; j < kept; ++j)
                values[static_cast<std::size_t>(c * kept + j)] = s.conv_cache[j * channels + c];
        sink("conv_cache", std::array{channels, kept}, values);
        std::vector<T> scratch(static_cast<std::size_t>(Head::scratch_elements));
        // add(head, first row of a chunk, rows) for the chunks of rows [first, end)
        const auto rows = [&](const char* name, Index first, Index end, Index chunk,
                              const auto& add) {
            values.clear();
            for (Index h = 0; h < H; ++h)
                for (Index t = first; t < end; t += chunk) {
                    s.bank->expect_page();
                    add(Head(retrieval_past(*s.bank), h), t, std::min(chunk, end - t));
                }
            sink(name, std::array{H, end - first, D}, values);
        };
        rows("keys", exact, N, C, [&](const Head& head, Index t, Index count) {
            const T* const keys = head.read(t / C, scratch.data()).keys;
            for (Index j = 0; j < count; ++j)
                for (Index i = 0; i < D; ++i) values.push_back(keys[i * Head::key_stride + j]);
        });
        rows("values", exact, N, C, [&](const Head& head, Index t, Index count) {
            const T* const v = head.read(t / C, scratch.data()).values;
            for (Index j = 0; j < count; ++j)
                values.insert(values.end(), v + j * Head::value_stride,
                              v + j * Head::value_stride + D);
        });
        rows("summaries", bounds.first_scored(m), m, 1, [&](const Head& head, Index c, Index) {
            for (Index i = 0; i < D; ++i)
                values.push_back(
                    head.summaries(c / Head::group)[i * Head::group + c % Head::group]);
        });
    }

    // ---- buffers

    struct Scratch {
        MatrixView<T> qkv, mixed;  // [B·N, 3I], before and after the convolution; with no tape
        MatrixView<T> o;           // [B·N, I]; with no tape
        TaskScratch selections;    // of B·H; with no tape
        TaskScratch heads;         // of B·H
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        const Index rows = call.rows(), tasks = call.streams * shape_.n_heads;
        if (!call.recorded) {
            v.matrix(s.qkv, rows, 3 * inner());
            v.matrix(s.mixed, rows, 3 * inner());
            v.matrix(s.o, rows, inner());
            v.tasks(s.selections, tasks, Selection::bytes(call.tokens, shape_.top_k));
        }
        v.tasks(s.heads, tasks, mix_scratch(call.tokens));
    }

    // The selection is held fixed; keys and values are read from the bank. 7I + (2 + 3·top_k + 1)·H
    // numbers a token, (K − 1)·3I a stream.
    struct Tape {
        MatrixView<T> qkv;       // [B·N, 3I], before the convolution
        MatrixView<T> mixed;     // [B·N, 3I], q̂, k̂, v
        MatrixView<T> norms;     // [B·N, 2H], of q and k
        MatrixView<T> o;         // [B·N, I]
        MatrixView<T> cache;     // [B·(K−1), 3I], inputs of the convolution before the first token
        TaskScratch selections;  // of B·H
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        const Index rows = call.rows(), H = shape_.n_heads, I = inner();
        v.matrix(t.qkv, rows, 3 * I);
        v.matrix(t.mixed, rows, 3 * I);
        v.matrix(t.norms, rows, 2 * H);
        v.matrix(t.o, rows, I);
        v.matrix(t.cache, call.streams * (shape_.conv_kernel - 1), 3 * I);
        v.tasks(t.selections, call.streams * H, Selection::bytes(call.tokens, shape_.top_k));
    }

    struct BackwardScratch {
        MatrixView<T> dqkv;   // [B·N, 3I]
        MatrixView<T> dout;   // [B·N, I]
        MatrixView<T> dtaps;  // [K, 3I]
        TaskScratch heads;    // of H
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const;

    // The bank needs nothing: what lies behind the position is never read.
    struct History {
        MatrixView<T> cache;  // [K−1, 3I]
        MatrixView<T> qkv;    // [N, 3I]
    };
    template <class V>
    constexpr void visit_history(History& h, V& v, Index N) const {
        v.matrix(h.cache, shape_.conv_kernel - 1, 3 * inner());
        v.matrix(h.qkv, N, 3 * inner());
    }

    // ---- computing

    // As layers/module.hpp says; the banks have memory for the N tokens (StreamMemory::reserve),
    // and those of dstates in backward have the same pages. Cost: O(B·N·(d·I + I·(position + N)/C +
    // I·C·(top_k + 1))).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y, Form,
                 Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), rows = B * N, H = shape_.n_heads, I = inner();
        const Scratch s =
            take_scratch(*this, arena, {.streams = B, .tokens = N, .recorded = records<R>});
        MatrixView<T> qkv = s.qkv, mixed = s.mixed, norms, o = s.o;
        TaskScratch selections = s.selections;
        if constexpr (records<R>) {
            qkv = tape.qkv, mixed = tape.mixed, norms = tape.norms, o = tape.o;
            selections = tape.selections;
            copy_caches(streams, tape.cache);
        } else if (streams.history() != nullptr) {
            const History history = take_history(*this, *streams.history(), N);
            copy_caches(streams, history.cache);
            qkv = history.qkv;
        }
        kernels::matmul(x, p.qkv_proj, qkv, acc, &arena);
        Index furthest = 0;
        for (Index b = 0; b < B; ++b)
            furthest = std::max(furthest, static_cast<Index>(streams.position(b)));
        parallel_for(
            B * H,
            [&](Index task) {
                const Index b = task / H, h = task % H;
                Arena own = s.heads.of(task);
                mix_head(p, bind_state(*this, streams, b), streams.position(b),
                         qkv.middle_rows(b * N, N), mixed.middle_rows(b * N, N),
                         norms.middle_rows(b * N, norms.data() == nullptr ? 0 : N),
                         selection(selections, task, N), o.middle_rows(b * N, N), h, own);
            },
            records<R> ||
                rows * I * (chunk_size() * (shape_.top_k + 1) + furthest / chunk_size()) > 65536);
        tell_reads(streams, N, selections);
        project(o, p.o_proj, y, write, &arena);
    }

    // ---- a text that is cut (layers/module.hpp)

    constexpr Index halo() const noexcept { return shape_.conv_kernel - 1; }
    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const T> x, T*,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {.tokens = N});
        kernels::matmul(x, p.qkv_proj, s.qkv, acc, &arena);
        parallel_for(
            shape_.n_heads,
            [&](Index h) {
                Arena own = s.heads.of(h);
                put_head(p, bind_state(*this, streams, 0), streams.position(0), s.qkv, s.mixed, {},
                         h, own);
            },
            N * inner() * HeadDim > 65536);
    }
    void receive(const State& state, Index first, Index end, Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        T* const decoded = arena.take<T>(Head::scratch_elements);
        for (Index c = first; c < end; ++c) {
            state.bank->expect_page();
            for (Index h = 0; h < shape_.n_heads; ++h)
                Head(retrieval_past(*state.bank), h).summarise(c, decoded);
        }
    }

    // As layers/module.hpp says.
    void rollback(const State& state, std::int64_t, Index N, Index kept,
                  Arena& memory) const noexcept {
        const Index rows = shape_.conv_kernel - 1, channels = 3 * inner();
        const History h = take_history(*this, memory, N);
        kernels::short_conv_rewind<T>(h.cache, h.qkv, kept, {state.conv_cache, rows, channels});
    }

    // As layers/module.hpp says; defined in retrieval_attention_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

    // What head h of stream b selected for its N tokens, as a tape of forward has it.
    Selection selection(const Tape& tape, Index b, Index h, Index N) const noexcept {
        return selection(tape.selections, b * shape_.n_heads + h, N);
    }

    // Head h of one stream, from qkv to what the bank has. Left behind: mixed, where q is q̂ and k
    // is k̂; norms [N, 2H] of q and k, unless empty.
    template <class P>
    void put_head(const P& p, const State& state, std::int64_t position, MatrixView<const T> qkv,
                  MatrixView<T> mixed, MatrixView<T> norms, Index h, Arena& arena) const noexcept {
        const Index I = inner(), H = shape_.n_heads, N = qkv.rows(), kept = shape_.conv_kernel - 1;
        const MatrixView<T> cache(state.conv_cache, kept, 3 * I);
        const auto part = [&](Index i) { return head_part(mixed, i, h); };
        for (Index i = 0; i < 3; ++i) {
            const Index first = i * I + h * HeadDim;
            kernels::short_conv(qkv.middle_cols(first, HeadDim), p.conv.middle_cols(first, HeadDim),
                                nullptr, cache.middle_cols(first, HeadDim),
                                mixed.middle_cols(first, HeadDim));
            if (i < 2)
                kernels::l2_normalize<HeadDim>(
                    mixed.middle_cols(first, HeadDim),
                    norms.data() == nullptr ? norms : norms.middle_cols(i * H + h, 1));
        }
        const auto at = static_cast<std::size_t>(h);
        const T tau = std::exp(p.temperature[at]);
        const T* const w = p.gate.data() + h * HeadDim;
        const Head bank(retrieval_past(*state.bank), h);
        const Arena::Scope scope(arena);
        T* const decoded = arena.take<T>(Head::scratch_elements);
        for (Index n = 0; n < N; ++n) {
            T* const q = part(0).row(n);
            const T* const k = part(1).row(n);
            out<HeadDim>(q) *= tau;
            const T gate =
                simd::sigmoid(T(8) * dot(view<HeadDim>(w), in(k)) + p.gate_bias[at] - T(2));
            bank.put(position + n, k, part(2).row(n), gate);
            if ((position + n + 1) % chunk_size() == 0)
                bank.summarise(static_cast<Index>((position + n) / chunk_size()), decoded);
        }
    }
    // put_head, and on to o, with the selection.
    template <class P>
    void mix_head(const P& p, const State& state, std::int64_t position, MatrixView<const T> qkv,
                  MatrixView<T> mixed, MatrixView<T> norms, const Selection& selection,
                  MatrixView<T> o, Index h, Arena& arena) const noexcept {
        put_head(p, state, position, qkv, mixed, norms, h, arena);
        const auto at = static_cast<std::size_t>(h);
        const auto q = head_part(mixed, 0, h);
        const Head bank(retrieval_past(*state.bank), h);
        kernels::retrieval_route<HeadDim, ChunkSize, T>(
            q, position, bank, std::exp(p.route_scale[at]), p.local_logit[at], selection, arena);
        kernels::retrieval_attend<HeadDim, ChunkSize, T>(
            q, position, bank, selection, o.middle_cols(h * HeadDim, HeadDim), arena);
    }

    // Arena that mix_head takes, beside the selection.
    constexpr Index mix_scratch(Index N) const noexcept {
        return std::max(
            {arena_bytes<T>(Head::scratch_elements),
             kernels::retrieval_route_workspace_bytes<T, HeadDim>(),
             kernels::retrieval_attend_workspace_bytes<T, HeadDim, ChunkSize>(N, shape_.top_k)});
    }

private:
    // Head h's columns of q (0), k or v (2) in [N, 3I].
    MatrixView<T, HeadDim> head_part(MatrixView<T> qkv, Index i, Index h) const noexcept {
        return qkv.template middle_cols<HeadDim>(i * inner() + h * HeadDim);
    }
    Selection selection(const TaskScratch& memory, Index task, Index N) const noexcept {
        Arena arena = memory.of(task);
        return Selection::take(arena, N, shape_.top_k);
    }
    constexpr Index inner() const noexcept { return shape_.n_heads * HeadDim; }
    // What every token read, to the observers of the banks that have one.
    void tell_reads(Streams streams, Index N, const TaskScratch& selections) const noexcept {
        for (Index b = 0; b < streams.count(); ++b) {
            const PageBank& bank = *bind_state(*this, streams, b).bank;
            ReadObserver* const observer = bank.policy().reads.get();
            if (observer == nullptr) continue;
            for (Index h = 0; h < shape_.n_heads; ++h) {
                const Selection kept = selection(selections, b * shape_.n_heads + h, N);
                for (Index n = 0; n < N; ++n)
                    for (Index i = 0; i < kept.top_k && kept.chunks[n * kept.top_k + i] >= 0; ++i)
                        observer->read(streams.position(b) + n, h, kept.chunks[n * kept.top_k + i],
                                       static_cast<double>(kept.weights[n * (kept.top_k + 1) + i]));
            }
        }
    }
    // caches [B·(K−1), 3I] = the streams' inputs of the convolution.
    void copy_caches(Streams streams, MatrixView<T> caches) const noexcept {
        const Index kept = shape_.conv_kernel - 1;
        for (Index b = 0; b < streams.count(); ++b)
            std::copy_n(bind_state(*this, streams, b).conv_cache, kept * 3 * inner(),
                        caches.row(b * kept));
    }

    template <class P, class G>
    void backward_head(const P& p, Streams streams, Index N, const Tape& tape,
                       const BackwardScratch& s, G& gradients, Streams dstates, Index b, Index h,
                       Arena& arena) const noexcept;

    // τ begins as 10, w as N(0, 0.25), λ as 1, b and ℓ as 0.
    static constexpr ParameterLaw temperature_law =
        laws::constant(ParameterRole::router, 2.302585092994046);  // ln 10
    static constexpr ParameterLaw gate_law{.role = ParameterRole::router,
                                           .normal = {.kind = Draw::Kind::normal, .value = 0.5},
                                           .fan_in = {.kind = Draw::Kind::normal, .value = 0.5},
                                           .decayed = true};
    static constexpr ParameterLaw router_law = laws::constant(ParameterRole::router, 0.0);

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
