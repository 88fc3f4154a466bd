// Gated DeltaNet as published models have it: value heads that share key heads, keys and values of
// other widths than each other, a decay of its own rate, and a norm of the outputs.
//
//   [q; k; v] = silu(conv(qkv_proj x)),  per key head q ← Dk^(−1/2)·q̂, k ← k̂, x̂ = x (‖x‖² +
//   10⁻⁶)^(−1/2) [a; b] = ab_proj x,  α = exp(−e^(decay_log) softplus(a + decay_bias)),  β = c·σ(b)
//   value head j, of key head g = ⌊j·Hk/Hv⌋:
//   S_t = α_t S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, o_t = S_t q_t
//   y = o_proj (rms(o; o_norm) ⊙ silu(gate_proj x)),  the norm over each head
//
// Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (arXiv 2412.06464); the decay is
// Mamba-2's (arXiv 2405.21060).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/delta_rule/delta_rule.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/kernels/short_conv/short_conv.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. One module for all widths: its kernels read them
// from the views. C = 2·Hk·Dk + Hv·Dv channels, I = Hv·Dv.
template <Real T, class Shape = RuntimeGroupedDeltaNetShape>
class GroupedDeltaNet {
public:
    using Scalar = T;
    static constexpr Index block = kernels::gated_delta_default_block<T, dynamic>;

    constexpr GroupedDeltaNet() = default;
    constexpr explicit GroupedDeltaNet(Shape shape) : shape_(shape) {}
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
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};    // [C, d]
        typename Storage::Exact ab_proj{};      // [2Hv, d]
        typename Storage::Vector decay_log{};   // [Hv]
        typename Storage::Vector decay_bias{};  // [Hv]
        typename Storage::Taps conv{};          // C channels, K taps
        typename Storage::Matrix gate_proj{};   // [I, d], when gated
        typename Storage::Vector o_norm{};      // [Dv]
        typename Storage::Matrix o_proj{};      // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = shape_.d_model, H = shape_.value_heads;
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, channels(), d,
                 {keys(), keys(), inner()});
        v.matrix(p.ab_proj, "ab_proj.weight", laws::gate, 2 * H, d);
        v.vector(p.decay_log, "decay_log", laws::constant(ParameterRole::decay_bias, 1.0), H);
        v.vector(p.decay_bias, "decay_bias", laws::constant(ParameterRole::decay_bias, -4.0), H);
        v.taps(p.conv, "short_conv.conv.weight", laws::convolution, channels(), shape_.conv_kernel);
        if (gated()) v.matrix(p.gate_proj, "gate_proj.weight", laws::output_gate, inner(), d);
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
        v.array(s.memory, shape_.value_heads * head_size());
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

    struct Scratch {
        MatrixView<T> qkv, mixed;  // [B·N, C], before and after the convolution
        MatrixView<T> gates;       // [B·N, 2Hv], ln α and β
        MatrixView<T> o;           // [B·N, I]
        TaskScratch heads;         // of B·Hk
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        v.matrix(s.qkv, call.rows(), channels());
        v.matrix(s.mixed, call.rows(), channels());
        v.matrix(s.gates, call.rows(), 2 * shape_.value_heads);
        v.matrix(s.o, call.rows(), inner());
        v.tasks(s.heads, call.streams * shape_.key_heads,
                call.form == Form::recurrent ? 0
                                             : kernels::gated_delta_workspace_bytes<T, dynamic>(
                                                   block, shape_.key_dim, shape_.value_dim));
    }

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
        v.matrix(h.gates, N, 2 * shape_.value_heads);
        v.matrix(h.o, N, inner());
    }

    // ---- computing

    // As layers/module.hpp says. Cost: O(B·N·(d·(C + I) + Hv·Dk·Dv)).
    template <class P>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y,
                 Form form, Write write, Arena& arena, NoTape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), G = shape_.key_heads;
        Scratch s = take_scratch(*this, arena, {B, N, form});
        History history{};
        if (streams.history() != nullptr) {
            history = take_history(*this, *streams.history(), N);
            s = {history.qkv, history.mixed, history.gates, history.o, s.heads};
            const State state = bind_state(*this, streams, 0);
            std::copy_n(state.conv_cache, cache_size(), history.before.conv_cache);
            std::copy_n(state.memory, shape_.value_heads * head_size(), history.before.memory);
        }
        kernels::matmul(x, p.qkv_proj, s.qkv, acc, &arena);
        kernels::matmul(x, p.ab_proj, s.gates);
        write_gates(p, s.gates);
        parallel_for(
            B * G,
            [&](Index task) {
                const Index b = task / G;
                const Scratch rows{s.qkv.middle_rows(b * N, N),
                                   s.mixed.middle_rows(b * N, N),
                                   s.gates.middle_rows(b * N, N),
                                   s.o.middle_rows(b * N, N),
                                   {}};
                Arena own = s.heads.of(task);
                mix_group(p, bind_state(*this, streams, b), streams.position(b), rows, task % G,
                          form, own);
            },
            B * N * shape_.value_heads * head_size() > 32768);
        if (shape_.gate == OutputGate::silu)
            kernels::matmul(x, p.gate_proj, s.o, in(s.o) * silu(acc), &arena);
        if (shape_.gate == OutputGate::sigmoid)
            kernels::matmul(x, p.gate_proj, s.o, in(s.o) * sigmoid(acc), &arena);
        project(s.o, p.o_proj, y, write, &arena);
    }

    // Back to the state after the first kept of the N tokens of the last call, which took history.
    // What the delta rule adds for each is done again; nothing else is. No allocation.
    void rollback(const State& state, std::int64_t, Index N, Index kept,
                  Arena& memory) const noexcept {
        const History h = take_history(*this, memory, N);
        const Index rows = shape_.conv_kernel - 1;
        kernels::short_conv_rewind<T>(MatrixView<const T>(h.before.conv_cache, rows, channels()),
                                      h.qkv, kept, {state.conv_cache, rows, channels()});
        std::copy_n(h.before.memory, shape_.value_heads * head_size(), state.memory);
        const Scratch first{h.qkv.middle_rows(0, kept),
                            h.mixed.middle_rows(0, kept),
                            h.gates.middle_rows(0, kept),
                            h.o.middle_rows(0, kept),
                            {}};
        parallel_for(
            shape_.value_heads,
            [&](Index head) {
                kernels::gated_delta_recurrent(delta_input(first, head), memory_of(state, head),
                                               values_of(first.o, head));
            },
            kept * shape_.value_heads * head_size() > 32768);
    }

private:
    constexpr bool gated() const noexcept { return shape_.gate != OutputGate::none; }
    constexpr Index keys() const noexcept { return shape_.key_heads * shape_.key_dim; }
    constexpr Index inner() const noexcept { return shape_.value_heads * shape_.value_dim; }
    constexpr Index channels() const noexcept { return 2 * keys() + inner(); }
    constexpr Index head_size() const noexcept { return shape_.key_dim * shape_.value_dim; }
    constexpr Index cache_size() const noexcept { return (shape_.conv_kernel - 1) * channels(); }
    constexpr Index sharing() const noexcept { return shape_.value_heads / shape_.key_heads; }

    MatrixView<T> memory_of(const State& state, Index h) const noexcept {
        return {state.memory + h * head_size(), shape_.key_dim, shape_.value_dim};
    }
    MatrixView<T> values_of(MatrixView<T> o, Index h) const noexcept {
        return o.middle_cols(h * shape_.value_dim, shape_.value_dim);
    }
    // ln α and β of every row, in the place of a and b.
    template <class P>
    void write_gates(const P& p, MatrixView<T> gates) const noexcept {
        const Index H = shape_.value_heads;
        const auto scale = static_cast<T>(shape_.beta_scale);
        for (Index r = 0; r < gates.rows(); ++r) {
            T* const g = gates.row(r);
            out(H, g) = -exp(in(p.decay_log.data())) * softplus(in(g) + in(p.decay_bias.data()));
            out(H, g + H) = scale * sigmoid(in(g + H));
        }
    }
    // What the delta rule reads for value head h.
    kernels::GatedDeltaInput<T, dynamic> delta_input(const Scratch& s, Index h) const noexcept {
        const Index N = s.mixed.rows(), H = shape_.value_heads, Dk = shape_.key_dim,
                    at = h / sharing() * Dk;
        return {s.mixed.middle_cols(at, Dk),
                s.mixed.middle_cols(keys() + at, Dk),
                s.mixed.middle_cols(2 * keys() + h * shape_.value_dim, shape_.value_dim),
                {s.gates.data() + h, N, s.gates.stride()},
                {s.gates.data() + H + h, N, s.gates.stride()}};
    }

    // Key head g of one stream and the value heads that share it: nothing else is touched. s: the
    // stream's N rows.
    template <class P>
    void mix_group(const P& p, const State& state, std::int64_t position, const Scratch& s, Index g,
                   Form form, Arena& arena) const noexcept {
        const Index Dk = shape_.key_dim, Dv = shape_.value_dim;
        const auto convolve = [&](Index first, Index count) {
            const MatrixView<T> cache(state.conv_cache, shape_.conv_kernel - 1, channels());
            const auto mixed = s.mixed.middle_cols(first, count);
            kernels::short_conv(MatrixView<const T>(s.qkv.middle_cols(first, count)),
                                MatrixView<const T>(p.conv.middle_cols(first, count)), nullptr,
                                cache.middle_cols(first, count), mixed,
                                [](auto z) { return simd::silu(z); });
            return mixed;
        };
        kernels::l2_scale<T>(Dk, convolve(g * Dk, Dk), 1e-6,
                             1 / std::sqrt(static_cast<double>(Dk)));
        kernels::l2_scale<T>(Dk, convolve(keys() + g * Dk, Dk), 1e-6, 1);
        for (Index h = g * sharing(); h < (g + 1) * sharing(); ++h) {
            convolve(2 * keys() + h * Dv, Dv);
            const auto input = delta_input(s, h);
            const MatrixView<T> S = memory_of(state, h), o = values_of(s.o, h);
            if (form == Form::recurrent) kernels::gated_delta_recurrent(input, S, o);
            else
                kernels::gated_delta_chunkwise<block>(input, S, o, block - position % block, arena);
            kernels::rms_norm(MatrixView<const T>(o), std::span<const T>(p.o_norm), shape_.epsilon,
                              o);
        }
    }

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
