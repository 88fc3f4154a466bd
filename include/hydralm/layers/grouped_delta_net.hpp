// Gated DeltaNet as published models have it: value heads that share key heads, keys and values of
// other widths than each other, a decay of its own rate, and a norm of the outputs.
//
//   [q; k; v] = silu(conv(qkv_proj x)),  per key head q ← Dk^(−1/2)·q̂, k ← k̂, x̂ = x (‖x‖² +
//   10⁻⁶)^(−1/2) [a; b] = ab_proj x,  α = exp(−e^(decay_log) softplus(a + decay_bias)),  β = c·σ(b)
//   value head j, of key head g = ⌊j·Hk/Hv⌋:
//   S_t = α_t S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, o_t = S_t q_t
//   y = o_proj (rms(o; o_norm) ⊙ silu(gate_proj x)),  the norm over each head
// With a decay for every key channel (Kimi Delta Attention) [a; b] = ab_proj x has decay_rank
// numbers a, decay_proj a stands in the place of a, and α_t [Dk] scales the columns of S_{t−1};
// with a gate_rank the gate is gate_proj gate_down x + gate_bias.
//
// Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (arXiv 2412.06464); the decay is
// Mamba-2's (arXiv 2405.21060); "Kimi Linear" (arXiv 2510.26692).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/delta_rule/delta_rule.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/kernels/short_conv/short_conv.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/output_gate.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. One module for all widths: its kernels read them
// from the views. C = 2·Hk·Dk + Hv·Dv channels, I = Hv·Dv.
template <Real T, class Shape = RuntimeGroupedDeltaNetShape>
class GroupedDeltaNet {
public:
    using Scalar = T;
    static constexpr Index block = kernels::gated_delta_default_block<T, dynamic>;

    constexpr GroupedDeltaNet() : GroupedDeltaNet(Shape{}) {}
    // Throws Error for more key channels that decay by themselves than there may be.
    constexpr explicit GroupedDeltaNet(Shape shape) : shape_(shape) {
        if (per_channel() && shape_.key_dim > kernels::gated_delta_most_channels)
            raise({.field = "key_dim",
                   .expected = "at most " + std::to_string(kernels::gated_delta_most_channels) +
                               " with a decay_rank",
                   .found = std::to_string(shape_.key_dim),
                   .fix = "make heads narrower, or decay_rank 0"});
    }
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("grouped_delta_net");
        v.option("d_model", shape_.d_model);
        v.option("key_heads", shape_.key_heads);
        v.option("key_dim", shape_.key_dim);
        v.option("value_heads", shape_.value_heads);
        v.option("value_dim", shape_.value_dim);
        v.option("conv_kernel", shape_.conv_kernel);
        v.option("beta_scale", shape_.beta_scale);
        v.option("epsilon", shape_.epsilon);
        v.option("gate", name(shape_.gate));
        if (per_channel()) v.option("decay_rank", shape_.decay_rank);
        if (shape_.gate_rank > 0) v.option("gate_rank", shape_.gate_rank);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};    // [C, d]
        typename Storage::Exact ab_proj{};      // [2Hv, d]; [decay_rank + Hv, d]
        typename Storage::Exact decay_proj{};   // [Hv·Dk, decay_rank], when there is one
        typename Storage::Vector decay_log{};   // [Hv]
        typename Storage::Vector decay_bias{};  // [Hv]; [Hv·Dk]
        typename Storage::Taps conv{};          // C channels, K taps
        typename Storage::Matrix gate_down{};   // [gate_rank, d], when there is one
        typename Storage::Matrix gate_proj{};   // [I, d], when gated; [I, gate_rank]
        typename Storage::Vector gate_bias{};   // [I], when there is a gate_rank
        typename Storage::Vector o_norm{};      // [Dv]
        typename Storage::Matrix o_proj{};      // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = shape_.d_model, H = shape_.value_heads, low = shape_.gate_rank;
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, channels(), d,
                 {keys(), keys(), inner()});
        v.matrix(p.ab_proj, "ab_proj.weight", laws::gate, projected(), d);
        if (per_channel())
            v.matrix(p.decay_proj, "decay_proj.weight", laws::gate, decays(), shape_.decay_rank);
        v.vector(p.decay_log, "decay_log", laws::constant(ParameterRole::decay_bias, 1.0), H);
        v.vector(p.decay_bias, "decay_bias", laws::constant(ParameterRole::decay_bias, -4.0),
                 decays());
        v.taps(p.conv, "short_conv.conv.weight", laws::convolution, channels(), shape_.conv_kernel);
        if (low > 0) v.matrix(p.gate_down, "gate_down.weight", laws::output_gate, low, d);
        if (gated())
            v.matrix(p.gate_proj, "gate_proj.weight", laws::output_gate, inner(),
                     low > 0 ? low : d);
        if (low > 0)
            v.vector(p.gate_bias, "gate_bias", laws::constant(ParameterRole::output_gate, 0.0),
                     inner());
        v.vector(p.o_norm, "o_norm.weight", laws::norm, shape_.value_dim);
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, d, inner());
    }

    struct State {
        T* conv_cache;  // [K−1, C], the last inputs of the convolution, oldest first
        T* memory;      // [Hv, Dk, Dv], Sᵀ: rows are keys, columns are values
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.array(s.conv_cache, cache_size());
        v.array(s.memory, shape_.value_heads * shape_.key_dim, shape_.value_dim);
    }

    // sink(name, shape, values) for each array in the layout of state files: conv_cache [C, K−1],
    // S [Hv, Dv, Dk].
    template <class Sink>
    void export_state(const State& s, std::int64_t, const Sink& sink) const {
        const Index kept = shape_.conv_kernel - 1, C = channels();
        std::vector<T> values(static_cast<std::size_t>(cache_size()));
        for (Index c = 0; c < C; ++c)
            for (Index j = 0; j < kept; ++j)
                values[static_cast<std::size_t>(c * kept + j)] = s.conv_cache[j * C + c];
        sink("conv_cache", std::array{C, kept}, values);
        const Index H = shape_.value_heads, Dk = shape_.key_dim, Dv = shape_.value_dim;
        values.resize(static_cast<std::size_t>(H * head_size()));
        for (Index h = 0; h < H; ++h)
            for (Index i = 0; i < Dv; ++i)
                for (Index j = 0; j < Dk; ++j)
                    values[static_cast<std::size_t>((h * Dv + i) * Dk + j)] =
                        s.memory[(h * Dk + j) * Dv + i];
        sink("S", std::array{H, Dv, Dk}, values);
    }

    // ---- buffers

    // Of forward: what it computes where no tape and no history keeps it.
    struct Scratch {
        MatrixView<T> qkv, mixed;  // [B·N, C], before and after the convolution
        MatrixView<T> gates;       // [B·N, 2Hv], ln α and β; [B·N, Hv·Dk + Hv]
        MatrixView<T> o;           // [B·N, I]; with a tape, behind norm and output gate
        MatrixView<T> low;         // [B·N, decay_rank + Hv or gate_rank], of their projections
        TaskScratch heads;         // of B·Hk
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        if (!call.recorded) {
            v.matrix(s.qkv, call.rows(), channels());
            v.matrix(s.mixed, call.rows(), channels());
            v.matrix(s.gates, call.rows(), decays() + shape_.value_heads);
            v.matrix(s.low, call.rows(),
                     std::max(per_channel() ? projected() : 0, shape_.gate_rank));
        }
        v.matrix(s.o, call.rows(), inner());
        const auto bytes = per_channel() ? kernels::gated_delta_channel_workspace_bytes<T, dynamic>
                                         : kernels::gated_delta_workspace_bytes<T, dynamic>;
        v.tasks(s.heads, call.streams * shape_.key_heads,
                call.form == Form::recurrent ? 0 : bytes(block, shape_.key_dim, shape_.value_dim));
    }

    // What backward does not compute again: 2C + 2I + 2Hk + 4Hv numbers a token, Hv·Dk·Dv every
    // chunk, (K − 1)·C a stream; with decays of channels Hv·(Dk + 2) + decay_rank in the place of
    // 4Hv, and gate_rank more.
    struct Tape {
        MatrixView<T> qkv, mixed;  // as in Scratch
        MatrixView<T> factors;     // [B·N, 2Hk], by which q and k were scaled
        MatrixView<T> ab;          // [B·N, 2Hv], ab_proj x; [B·N, decay_rank + Hv]
        MatrixView<T> gates;       // as in Scratch
        MatrixView<T> o;           // [B·N, I], before the norm
        MatrixView<T> gate;        // [B·N, I], what silu or σ is applied to, when gated
        MatrixView<T> gate_low;    // [B·N, gate_rank], gate_down x, when gated
        MatrixView<T> cache;       // [B·(K−1), C], inputs of the convolution before the first token
        T* states;                 // [B, Hv, ceil(N / chunk), Dk, Dv]
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        const Index rows = call.rows(), H = shape_.value_heads;
        v.matrix(t.qkv, rows, channels());
        v.matrix(t.mixed, rows, channels());
        v.matrix(t.factors, rows, 2 * shape_.key_heads);
        v.matrix(t.ab, rows, projected());
        v.matrix(t.gates, rows, decays() + H);
        v.matrix(t.o, rows, inner());
        if (gated()) {
            v.matrix(t.gate, rows, inner());
            v.matrix(t.gate_low, rows, shape_.gate_rank);
        }
        v.matrix(t.cache, call.streams * (shape_.conv_kernel - 1), channels());
        v.array(t.states, call.streams * H * chunks(call.tokens) * head_size());
    }

    struct BackwardScratch {
        MatrixView<T> dqkv;          // [B·N, C]
        MatrixView<T> dgates;        // [B·N, 2Hv]; [B·N, Hv·Dk + Hv]
        MatrixView<T> a, dab;        // with decays of channels: decay_proj a [B·N, Hv·Dk], and
                                     // the gradient of ab_proj x, which is dgates otherwise
        MatrixView<T> normed, dout;  // [B·N, I], o behind its norm, and the gradient of o
        MatrixView<T> gated, dgate;  // [B·N, I], when gated
        MatrixView<T> dlow;          // [B·N, gate_rank], when gated
        MatrixView<T> dtaps;         // [K, C]
        TaskScratch heads;           // of Hk
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const;

    // What rollback needs of the last call.
    struct History {
        State before;
        MatrixView<T> qkv, mixed, gates, o;  // as in Scratch
    };
    template <class V>
    constexpr void visit_history(History& h, V& v, Index N) const {
        visit_state(h.before, v);
        v.matrix(h.qkv, N, channels());
        v.matrix(h.mixed, N, channels());
        v.matrix(h.gates, N, decays() + shape_.value_heads);
        v.matrix(h.o, N, inner());
    }

    // ---- computing

    // As layers/module.hpp says. Cost: O(B·N·(d·(C + I) + Hv·Dk·Dv)).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y,
                 Form form, Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), G = shape_.key_heads;
        const Scratch s = take_scratch(*this, arena, {B, N, form, records<R>});
        Work w{s.qkv, s.mixed, s.gates, s.o};
        History history{};
        if constexpr (records<R>) {
            w = {tape.qkv, tape.mixed, tape.gates, tape.o, tape.factors, tape.states};
            copy_caches(streams, tape.cache);
        } else if (streams.history() != nullptr) {
            history = take_history(*this, *streams.history(), N);
            w = {history.qkv, history.mixed, history.gates, history.o};
            const State state = bind_state(*this, streams, 0);
            std::copy_n(state.conv_cache, cache_size(), history.before.conv_cache);
            std::copy_n(state.memory, shape_.value_heads * head_size(), history.before.memory);
        }
        MatrixView<T> ab = w.gates, low = s.low;
        if constexpr (records<R>) {
            ab = tape.ab;
            low = tape.gate_low;
        } else if (per_channel()) {
            ab = low.middle_cols(0, projected());
        }
        kernels::matmul(x, p.qkv_proj, w.qkv, acc, &arena);
        kernels::matmul(x, p.ab_proj, ab);
        write_gates(p, ab, w.gates);
        parallel_for(
            B * G,
            [&](Index task) {
                const Index b = task / G;
                Arena own = s.heads.of(task);
                mix_group(p, bind_state(*this, streams, b), streams.position(b), rows_of(w, b, N),
                          task % G, form, own);
            },
            B * N * shape_.value_heads * head_size() > 32768);
        MatrixView<T> o = w.o;
        if constexpr (records<R>) normalise(p, tape.o, o = s.o);
        if (gated())
            with_gate(p, x, low, arena, [&](MatrixView<const T> from, const auto& sum) {
                if constexpr (records<R>) {
                    kernels::matmul(from, p.gate_proj, tape.gate, sum, &arena);
                    apply_output_gate<T>(shape_.gate, tape.gate, o, o);
                } else if (shape_.gate == OutputGate::silu) {
                    kernels::matmul(from, p.gate_proj, o, in(o)*silu(sum), &arena);
                } else {
                    kernels::matmul(from, p.gate_proj, o, in(o)*sigmoid(sum), &arena);
                }
            });
        project(o, p.o_proj, y, write, &arena);
    }

    // As layers/module.hpp says; defined in grouped_delta_net_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

    // Back to the state after the first kept of the N tokens of the last call, which took history.
    // What the delta rule adds for each is done again; nothing else is. No allocation.
    void rollback(const State& state, std::int64_t, Index N, Index kept,
                  Arena& memory) const noexcept {
        const History h = take_history(*this, memory, N);
        const Index rows = shape_.conv_kernel - 1;
        kernels::short_conv_rewind<T>(MatrixView<const T>(h.before.conv_cache, rows, channels()),
                                      h.qkv, kept, {state.conv_cache, rows, channels()});
        std::copy_n(h.before.memory, shape_.value_heads * head_size(), state.memory);
        const Work first = rows_of({h.qkv, h.mixed, h.gates, h.o}, 0, kept);
        parallel_for(
            shape_.value_heads,
            [&](Index head) {
                with_delta_input(first.mixed, first.gates, head, [&](const auto& input) {
                    kernels::gated_delta_recurrent(input, memory_of(state, head),
                                                   values_of(first.o, head));
                });
            },
            kept * shape_.value_heads * head_size() > 32768);
    }

private:
    // Where the rows of a call are computed.
    struct Work {
        MatrixView<T> qkv, mixed, gates, o;
        MatrixView<T> factors{};  // with a tape, as
        T* states = nullptr;      // there: o is left before its norm
    };
    // Those of stream b.
    Work rows_of(const Work& w, Index b, Index N) const noexcept {
        const auto rows = [&](MatrixView<T> all) { return all.middle_rows(b * N, N); };
        Work own{rows(w.qkv), rows(w.mixed), rows(w.gates), rows(w.o)};
        if (w.states != nullptr) {
            own.factors = rows(w.factors);
            own.states = w.states + b * shape_.value_heads * chunks(N) * head_size();
        }
        return own;
    }

    static constexpr Index chunk = std::max(kernels::gated_delta_training_chunk, block);
    static constexpr Index chunks(Index N) noexcept { return ceil_div(N, chunk); }

    constexpr bool gated() const noexcept { return shape_.gate != OutputGate::none; }
    constexpr bool per_channel() const noexcept { return shape_.decay_rank > 0; }
    constexpr Index keys() const noexcept { return shape_.key_heads * shape_.key_dim; }
    constexpr Index inner() const noexcept { return shape_.value_heads * shape_.value_dim; }
    constexpr Index channels() const noexcept { return 2 * keys() + inner(); }
    constexpr Index head_size() const noexcept { return shape_.key_dim * shape_.value_dim; }
    constexpr Index cache_size() const noexcept { return (shape_.conv_kernel - 1) * channels(); }
    constexpr Index sharing() const noexcept { return shape_.value_heads / shape_.key_heads; }
    // Numbers α of a token, and the rows of ab_proj.
    constexpr Index decays() const noexcept {
        return shape_.value_heads * (per_channel() ? shape_.key_dim : 1);
    }
    constexpr Index projected() const noexcept {
        return shape_.value_heads + (per_channel() ? shape_.decay_rank : shape_.value_heads);
    }

    MatrixView<T> memory_of(const State& state, Index h) const noexcept {
        return {state.memory + h * head_size(), shape_.key_dim, shape_.value_dim};
    }
    MatrixView<T> values_of(MatrixView<T> o, Index h) const noexcept {
        return o.middle_cols(h * shape_.value_dim, shape_.value_dim);
    }
    // ln α and β of every row, of a and b, which may lie in their place; of channels decay_proj a,
    // for write_channel_decays.
    template <class P>
    void write_gates(const P& p, MatrixView<const T> ab, MatrixView<T> gates) const noexcept {
        const Index H = shape_.value_heads, D = decays();
        if (per_channel())
            kernels::matmul(ab.middle_cols(0, shape_.decay_rank), p.decay_proj,
                            gates.middle_cols(0, D));
        const auto scale = static_cast<T>(shape_.beta_scale);
        for (Index r = 0; r < gates.rows(); ++r) {
            const T* const a = ab.row(r);
            T* const g = gates.row(r);
            if (!per_channel())
                out(H, g) =
                    -exp(in(p.decay_log.data())) * softplus(in(a) + in(p.decay_bias.data()));
            out(H, g + D) = scale * sigmoid(in(a + projected() - H));
        }
    }
    // ln α of value head h in every row, of decay_proj a in its place.
    template <class P>
    void write_channel_decays(const P& p, MatrixView<T> gates, Index h) const noexcept {
        const Index Dk = shape_.key_dim;
        const T rate = std::exp(p.decay_log[static_cast<std::size_t>(h)]);
        for (Index r = 0; r < gates.rows(); ++r) {
            T* const g = gates.row(r) + h * Dk;
            out(Dk, g) = -rate * softplus(in(g) + in(p.decay_bias.data() + h * Dk));
        }
    }
    // f(what gate_proj is applied to, its sum as an epilogue says it); low: for gate_down x.
    template <class P, class F>
    void with_gate(const P& p, MatrixView<const T> x, MatrixView<T> low, Arena& arena,
                   const F& f) const noexcept {
        if (shape_.gate_rank == 0) return f(x, acc);
        low = low.middle_cols(0, shape_.gate_rank);
        kernels::matmul(x, p.gate_down, low, acc, &arena);
        f(low, acc + in(p.gate_bias.data()));
    }
    // What the delta rule reads for value head h, with one decay a token.
    kernels::GatedDeltaInput<T, dynamic> delta_input(MatrixView<const T> mixed,
                                                     MatrixView<const T> gates,
                                                     Index h) const noexcept {
        const Index N = mixed.rows(), Dk = shape_.key_dim, at = h / sharing() * Dk;
        return {mixed.middle_cols(at, Dk),
                mixed.middle_cols(keys() + at, Dk),
                mixed.middle_cols(2 * keys() + h * shape_.value_dim, shape_.value_dim),
                {gates.data() + h, N, gates.stride()},
                {gates.data() + decays() + h, N, gates.stride()}};
    }
    // f(what it reads, with one or one for every key channel).
    template <class F>
    void with_delta_input(MatrixView<const T> mixed, MatrixView<const T> gates, Index h,
                          const F& f) const noexcept {
        const Index Dk = shape_.key_dim;
        const auto input = delta_input(mixed, gates, h);
        using Decay = kernels::ChannelDecay<T, dynamic>;
        if (per_channel())
            f(kernels::GatedDeltaInput<T, dynamic, dynamic, Decay>{
                input.q, input.k, input.v, gates.middle_cols(h * Dk, Dk), input.beta});
        else f(input);
    }
    // caches [B·(K−1), C] = the streams' inputs of the convolution.
    void copy_caches(Streams streams, MatrixView<T> caches) const noexcept {
        for (Index b = 0; b < streams.count(); ++b)
            std::copy_n(bind_state(*this, streams, b).conv_cache, cache_size(),
                        caches.row(b * (shape_.conv_kernel - 1)));
    }
    // y = o behind the norm of every head.
    template <class P>
    void normalise(const P& p, MatrixView<const T> o, MatrixView<T> y) const noexcept {
        const Index Dv = shape_.value_dim;
        for (Index first = 0; first < inner(); first += Dv)
            kernels::rms_norm(o.middle_cols(first, Dv), std::span<const T>(p.o_norm),
                              shape_.epsilon, y.middle_cols(first, Dv));
    }
    double query_scale() const noexcept {
        return 1 / std::sqrt(static_cast<double>(shape_.key_dim));
    }

    // Key head g of one stream and the value heads that share it: nothing else is touched. w: the
    // stream's N rows. With a tape, blocks begin with the call.
    template <class P>
    void mix_group(const P& p, const State& state, std::int64_t position, const Work& w, Index g,
                   Form form, Arena& arena) const noexcept {
        const Index Dk = shape_.key_dim, Dv = shape_.value_dim, N = w.qkv.rows();
        const bool recorded = w.states != nullptr;
        const auto convolve = [&](Index first, Index count) {
            const MatrixView<T> cache(state.conv_cache, shape_.conv_kernel - 1, channels());
            const auto mixed = w.mixed.middle_cols(first, count);
            kernels::short_conv(MatrixView<const T>(w.qkv.middle_cols(first, count)),
                                MatrixView<const T>(p.conv.middle_cols(first, count)), nullptr,
                                cache.middle_cols(first, count), mixed,
                                [](auto z) { return simd::silu(z); });
            return mixed;
        };
        const auto factors = [&](Index part) {
            return recorded ? w.factors.middle_cols(part * shape_.key_heads + g, 1) : w.factors;
        };
        kernels::l2_scale<T>(Dk, convolve(g * Dk, Dk), 1e-6, query_scale(), factors(0));
        kernels::l2_scale<T>(Dk, convolve(keys() + g * Dk, Dk), 1e-6, 1, factors(1));
        for (Index h = g * sharing(); h < (g + 1) * sharing(); ++h) {
            convolve(2 * keys() + h * Dv, Dv);
            if (per_channel()) write_channel_decays(p, w.gates, h);
            const MatrixView<T> S = memory_of(state, h), o = values_of(w.o, h);
            with_delta_input(w.mixed, w.gates, h, [&](const auto& input) {
                if (recorded)
                    kernels::gated_delta_chunkwise<block>(
                        input, S, o, block, arena, {w.states + h * chunks(N) * head_size(), chunk});
                else if (form == Form::recurrent) kernels::gated_delta_recurrent(input, S, o);
                else
                    kernels::gated_delta_chunkwise<block>(input, S, o, block - position % block,
                                                          arena);
            });
            if (!recorded)
                kernels::rms_norm(MatrixView<const T>(o), std::span<const T>(p.o_norm),
                                  shape_.epsilon, o);
        }
    }

    template <class P, class Q, class G>
    void backward_gates(const P& p, const Q& transposed, const Tape& tape, const BackwardScratch& s,
                        MatrixView<const T> x, MatrixView<T> dx, G& gradients) const noexcept;
    template <class P>
    void backward_group(const P& p, Index N, const Tape& tape, const BackwardScratch& s,
                        Streams dstates, Index b, Index g, Arena& arena) const noexcept;

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
