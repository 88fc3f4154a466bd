// Gated DeltaNet: the linear-time mixer with constant state.
//
//   [q; k; v] = silu(conv(qkv_proj x)), per head q/‖q‖, k/‖k‖
//   [a; b] = ab_proj x + bias, α = σ(a), β = σ(b), or 2σ(b) with negative eigenvalues
//   S_t = α_t S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, o_t = S_t q_t
//   y = o_proj (o ⊙ silu(gate_proj x))
//
// Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (arXiv 2412.06464), without the output
// norm. α(I − β k kᵀ) has the eigenvalue α(1 − β) along a unit key: with β above 1 it is negative
// (Grazzi et al., arXiv 2411.12537).
#pragma once

#include <array>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/delta_rule/delta_rule.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/kernels/short_conv/short_conv.hpp"
#include "hydralm/kernels/swiglu/forward.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {
// T: scalar of weights, activations and state. HeadDim: D. ChunkSize: tokens of a block of the
// chunkwise form, 0: the fastest for this instruction set; results differ by rounding only. Shape:
// DeltaNetShape or RuntimeDeltaNetShape.
template <Real T, Index HeadDim, Index ChunkSize = 0, class Shape = RuntimeDeltaNetShape>
class GatedDeltaNet {
    static_assert(DeltaNetShaped<Shape>,
                  "hydralm: shape: must be one of this module's; give GatedDeltaNet a "
                  "DeltaNetShape or a RuntimeDeltaNetShape");
    static_assert(
        HeadDim >= 4 && HeadDim % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    static_assert(ChunkSize == 0 || kernels::gated_delta_has_block(ChunkSize),
                  "hydralm: chunk: must be 4, 8, 16, 32 or 64; 0 takes the fastest");

public:
    using Scalar = T;
    static constexpr Index head_dim = HeadDim;
    static constexpr Index block =
        ChunkSize == 0 ? kernels::gated_delta_default_block<T, HeadDim> : ChunkSize;

    constexpr GatedDeltaNet() = default;
    constexpr explicit GatedDeltaNet(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }
    // β = beta_scale · σ(b).
    constexpr T beta_scale() const noexcept { return shape_.negative_eigenvalues ? T(2) : T(1); }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("gated_delta_net");
        v.option("d_model", shape_.d_model);
        v.option("n_heads", shape_.n_heads);
        v.option("head_dim", HeadDim);
        v.option("conv_kernel", shape_.conv_kernel);
        v.option("use_gate", shape_.use_gate);
        v.option("norm_qk", shape_.norm_qk);
        v.option("negative_eigenvalues", shape_.negative_eigenvalues);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};   // [3I, d]
        typename Storage::Exact ab_proj{};     // [2H, d]
        typename Storage::Vector ab_bias{};    // [2H], α half first
        typename Storage::Taps conv{};         // 3I channels, K taps
        typename Storage::Vector conv_bias{};  // [3I]
        typename Storage::Matrix gate_proj{};  // [I, d], when gated
        typename Storage::Matrix o_proj{};     // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = shape_.d_model, H = shape_.n_heads, I = inner();
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, 3 * I, d, 3);
        v.matrix(p.ab_proj, "ab_proj.weight", laws::gate, 2 * H, d);
        v.vector(p.ab_bias, "ab_proj.bias", laws::decay_bias, 2 * H);
        v.taps(p.conv, "short_conv.conv.weight", laws::convolution, 3 * I, shape_.conv_kernel);
        v.vector(p.conv_bias, "short_conv.conv.bias", laws::convolution_bias(shape_.conv_kernel),
                 3 * I);
        if (shape_.use_gate) v.matrix(p.gate_proj, "gate_proj.weight", laws::output_gate, I, d);
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, d, I);
    }

    struct State {
        T* conv_cache;  // [K−1, 3I], the last inputs of the convolution, oldest first
        T* memory;      // [H, D, D], Sᵀ: rows are keys, columns are values
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.array(s.conv_cache, (shape_.conv_kernel - 1) * 3 * inner());
        v.array(s.memory, shape_.n_heads * HeadDim, HeadDim);
    }

    // sink(name, shape, values) for each array in the layout of state files and golden vectors:
    // conv_cache [3I, K−1], S [H, Dv, Dk].
    template <class Sink>
    void export_state(const State& s, std::int64_t, const Sink& sink) const {
        const Index H = shape_.n_heads, D = HeadDim, channels = 3 * inner(),
                    kept = shape_.conv_kernel - 1;
        std::vector<T> values(static_cast<std::size_t>(channels * kept));
        for (Index c = 0; c < channels; ++c)
            for (Index j = 0; j < kept; ++j)
                values[static_cast<std::size_t>(c * kept + j)] = s.conv_cache[j * channels + c];
        sink("conv_cache", std::array{channels, kept}, values);
        values.resize(static_cast<std::size_t>(H * D * D));
        for (Index h = 0; h < H; ++h)
            for (Index i = 0; i < D; ++i)
                for (Index j = 0; j < D; ++j)
                    values[static_cast<std::size_t>((h * D + i) * D + j)] =
                        s.memory[(h * D + j) * D + i];
        sink("S", std::array{H, D, D}, values);
    }

    // ---- buffers

    // Of forward: what it computes where no tape and no history keeps it.
    struct Scratch {
        MatrixView<T> qkv, mixed;  // [B·N, 3I], before and after the convolution
        MatrixView<T> gates;       // [B·N, 2H], ln α and β
        MatrixView<T> o;           // [B·N, I]; with a tape, behind the output gate
        TaskScratch heads;         // of B·H
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        const Index rows = call.rows(), H = shape_.n_heads, I = inner();
        if (!call.recorded) {
            v.matrix(s.qkv, rows, 3 * I);
            v.matrix(s.mixed, rows, 3 * I);
            v.matrix(s.gates, rows, 2 * H);
        }
        if (!call.recorded || shape_.use_gate) v.matrix(s.o, rows, I);
        v.tasks(s.heads, call.streams * H,
                call.form == Form::recurrent
                    ? 0
                    : kernels::gated_delta_workspace_bytes<T, HeadDim>(block));
    }

    // What backward does not compute again: (7 + gated)·I + 4H numbers a token, H·D² every chunk,
    // (K − 1)·3I a stream.
    struct Tape {
        MatrixView<T> qkv;    // [B·N, 3I], before the convolution
        MatrixView<T> mixed;  // [B·N, 3I], q, k, v as the delta rule reads them
        MatrixView<T> norms;  // [B·N, 2H], of q and k; when they are normalised
        MatrixView<T> gates;  // [B·N, 2H], ln α and β
        MatrixView<T> out;    // [B·N, 2I], gate_proj x and o; or [B·N, I], o
        MatrixView<T> cache;  // [B·(K−1), 3I], inputs of the convolution before the first token
        T* states;            // [B, H, ceil(N / chunk), D, D]
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        const Index rows = call.rows(), H = shape_.n_heads, I = inner();
        v.matrix(t.qkv, rows, 3 * I);
        v.matrix(t.mixed, rows, 3 * I);
        v.matrix(t.norms, rows, 2 * H);
        v.matrix(t.gates, rows, 2 * H);
        v.matrix(t.out, rows, out_width());
        v.matrix(t.cache, call.streams * (shape_.conv_kernel - 1), 3 * I);
        v.array(t.states, call.streams * H * chunks(call.tokens) * HeadDim * HeadDim);
    }

    struct BackwardScratch {
        MatrixView<T> dqkv;    // [B·N, 3I]
        MatrixView<T> dgates;  // [B·N, 2H]
        MatrixView<T> dout;    // as Tape::out
        MatrixView<T> dtaps;   // [K, 3I]
        MatrixView<T> gated;   // [B·N, I], o ⊙ silu(gate_proj x)
        MatrixView<T> dgated;  // [B·N, I]
        TaskScratch heads;     // of H
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
        v.matrix(h.qkv, N, 3 * inner());
        v.matrix(h.mixed, N, 3 * inner());
        v.matrix(h.gates, N, 2 * shape_.n_heads);
        v.matrix(h.o, N, inner());
    }

    // ---- computing

    // As layers/module.hpp says. Cost: O(B·N·(d·I + H·D²)).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y,
                 Form form, Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), rows = B * N, H = shape_.n_heads, I = inner();
        const Scratch scratch = take_scratch(*this, arena, {B, N, form, records<R>});
        Work w{scratch.qkv, scratch.mixed, scratch.gates, {}, scratch.o};
        History history{};
        if constexpr (records<R>) {
            w = {tape.qkv, tape.mixed, tape.gates, tape.norms,
                 tape.out.middle_cols(out_width() - I, I)};
            copy_caches(streams, tape.cache);
        } else if (streams.history() != nullptr) {
            history = take_history(*this, *streams.history(), N);
            w = {history.qkv, history.mixed, history.gates, {}, history.o};
            std::copy_n(bind_state(*this, streams, 0).conv_cache, cache_size(),
                        history.before.conv_cache);
        }
        project_inputs(p, x, w, arena);
        parallel_for(
            B * H,
            [&](Index task) {
                const Index b = task / H, h = task % H;
                const State state = bind_state(*this, streams, b);
                if (history.before.memory != nullptr)
                    copy_head(state.memory, history.before.memory, h);
                Arena own = scratch.heads.of(task);
                kernels::GatedDeltaCheckpoints<T> checkpoints;
                if constexpr (records<R>) checkpoints = {states_of(tape, b, N, h), chunk};
                mix_head(p, state, streams.position(b), w.middle_rows(b * N, N), h, form,
                         checkpoints, own);
            },
            records<R> || rows * H * HeadDim * HeadDim > 32768);
        MatrixView<T> out = w.o;
        if constexpr (records<R>) {
            if (shape_.use_gate) {
                kernels::matmul(x, p.gate_proj, tape.out.middle_cols(0, I));
                kernels::swiglu<T>(tape.out, out = scratch.o);
            }
        } else if (shape_.use_gate) {
            kernels::matmul(x, p.gate_proj, out, in(out)*silu(acc), &arena);
        }
        project(out, p.o_proj, y, write, &arena);
    }

    // ---- a text that is cut (layers/module.hpp)

    constexpr Index halo() const noexcept { return shape_.conv_kernel - 1; }
    constexpr Index map_size() const noexcept { return shape_.n_heads * HeadDim * HeadDim; }
    T* mapped(const State& state) const noexcept { return state.memory; }
    void identity(T* map) const noexcept {
        std::fill_n(map, map_size(), T(0));
        for (Index h = 0; h < shape_.n_heads; ++h) head_of(map, h).eigen().diagonal().setOnes();
    }

    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const T> x, T* map,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {.tokens = N});
        const Work w{s.qkv, s.mixed, s.gates, {}, s.o};
        const std::int64_t position = streams.position(0);
        project_inputs(p, x, w, arena);
        parallel_for(
            shape_.n_heads,
            [&](Index h) {
                Arena own = s.heads.of(h);
                mix_head(p, bind_state(*this, streams, 0), position, w, h, Form::parallel, {}, own);
                if (map == nullptr) return;
                kernels::gated_delta_transition<block>(
                    delta_input(w.mixed, w.gates, h), head_of(map, h),
                    w.o.template middle_cols<HeadDim>(h * HeadDim), block - position % block, own);
            },
            N * map_size() > 32768);
    }
    void carry(const T* map, const T* before, T* state) const noexcept {
        for (Index h = 0; h < shape_.n_heads; ++h)
            kernels::gated_delta_carry<T, HeadDim>(head_of(map, h), head_of(before, h),
                                                   head_of(state, h));
    }

    // Back to the state after the first kept of the N tokens of the last call, which took history.
    // What the delta rule adds for each is done again; nothing else is. No allocation.
    void rollback(const State& state, std::int64_t, Index N, Index kept,
                  Arena& memory) const noexcept {
        const Index H = shape_.n_heads, D = HeadDim;
        const History h = take_history(*this, memory, N);
        const Index rows = shape_.conv_kernel - 1, channels = 3 * inner();
        kernels::short_conv_rewind<T>(MatrixView<const T>(h.before.conv_cache, rows, channels),
                                      h.qkv, kept, {state.conv_cache, rows, channels});
        parallel_for(
            H,
            [&](Index head) {
                copy_head(h.before.memory, state.memory, head);
                kernels::gated_delta_recurrent(
                    delta_input(h.mixed.middle_rows(0, kept), h.gates.middle_rows(0, kept), head),
                    head_of(state.memory, head),
                    h.o.middle_rows(0, kept).template middle_cols<HeadDim>(head * D));
            },
            kept * H * D * D > 32768);
    }

    // As layers/module.hpp says; defined in gated_delta_net_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

private:
    // Where the rows of a call are computed.
    struct Work {
        MatrixView<T> qkv, mixed, gates, norms, o;
        Work middle_rows(Index first, Index count) const noexcept {
            return {qkv.middle_rows(first, count), mixed.middle_rows(first, count),
                    gates.middle_rows(first, count), norms.middle_rows(first, count),
                    o.middle_rows(first, count)};
        }
    };

    static constexpr Index chunk = std::max(kernels::gated_delta_training_chunk, block);

    constexpr Index inner() const noexcept { return shape_.n_heads * HeadDim; }
    constexpr Index out_width() const noexcept { return (shape_.use_gate ? 2 : 1) * inner(); }
    static constexpr Index chunks(Index N) noexcept { return ceil_div(N, chunk); }
    constexpr Index cache_size() const noexcept { return (shape_.conv_kernel - 1) * 3 * inner(); }
    // Head h of [H, D, D].
    template <class U>
    static MatrixView<U, HeadDim> head_of(U* memory, Index h) noexcept {
        return {memory + h * HeadDim * HeadDim, HeadDim};
    }
    static void copy_head(const T* from, T* to, Index h) noexcept {
        std::copy_n(from + h * HeadDim * HeadDim, HeadDim * HeadDim, to + h * HeadDim * HeadDim);
    }
    // caches [B·(K−1), 3I] = the streams' inputs of the convolution.
    void copy_caches(Streams streams, MatrixView<T> caches) const noexcept {
        for (Index b = 0; b < streams.count(); ++b)
            std::copy_n(bind_state(*this, streams, b).conv_cache, cache_size(),
                        caches.row(b * (shape_.conv_kernel - 1)));
    }
    T* states_of(const Tape& tape, Index b, Index N, Index h) const noexcept {
        return tape.states + (b * shape_.n_heads + h) * chunks(N) * HeadDim * HeadDim;
    }
    // q, k, v and gates of head h as the delta rule reads them.
    kernels::GatedDeltaInput<T, HeadDim> delta_input(MatrixView<const T> mixed,
                                                     MatrixView<const T> gates,
                                                     Index h) const noexcept {
        const Index H = shape_.n_heads, N = mixed.rows();
        const auto head = [&](Index part) {
            return mixed.template middle_cols<HeadDim>(part * inner() + h * HeadDim);
        };
        return {head(0),
                head(1),
                head(2),
                {gates.data() + h, N, gates.stride()},
                {gates.data() + H + h, N, gates.stride()}};
    }

    // qkv before the convolution, ln α and β.
    template <class P>
    void project_inputs(const P& p, MatrixView<const T> x, const Work& w,
                        Arena& arena) const noexcept {
        const Index H = shape_.n_heads;
        kernels::matmul(x, p.qkv_proj, w.qkv, acc, &arena);
        kernels::matmul(x, p.ab_proj, w.gates, acc + in(p.ab_bias.data()));
        for (Index r = 0; r < x.rows(); ++r) {
            T* const g = w.gates.row(r);
            out(H, g) = -softplus(-in(g));  // ln σ(a)
            out(H, g + H) = beta_scale() * sigmoid(in(g + H));
        }
    }

    // Convolution, normalisation and delta rule of head h of one stream: everything here touches
    // only that head's columns. w: the stream's N rows. With checkpoints, blocks begin with the
    // call.
    template <class P>
    void mix_head(const P& p, const State& state, std::int64_t position, const Work& w, Index h,
                  Form form, kernels::GatedDeltaCheckpoints<T> checkpoints,
                  Arena& arena) const noexcept {
        const Index H = shape_.n_heads, I = inner(), kept = shape_.conv_kernel - 1;
        const MatrixView<T> cache(state.conv_cache, kept, 3 * I);
        for (Index part = 0; part < 3; ++part) {
            const Index first = part * I + h * HeadDim;
            const auto mixed = w.mixed.middle_cols(first, HeadDim);
            kernels::short_conv(MatrixView<const T>(w.qkv.middle_cols(first, HeadDim)),
                                MatrixView<const T>(p.conv.middle_cols(first, HeadDim)),
                                p.conv_bias.data() + first, cache.middle_cols(first, HeadDim),
                                mixed, [](auto z) { return simd::silu(z); });
            if (part < 2 && shape_.norm_qk)
                kernels::l2_normalize<HeadDim>(mixed, w.norms.data() == nullptr
                                                          ? w.norms
                                                          : w.norms.middle_cols(part * H + h, 1));
        }
        const auto input = delta_input(w.mixed, w.gates, h);
        const MatrixView<T, HeadDim> S = head_of(state.memory, h);
        const auto out = w.o.template middle_cols<HeadDim>(h * HeadDim);
        if (form == Form::recurrent) kernels::gated_delta_recurrent(input, S, out);
        else
            kernels::gated_delta_chunkwise<block>(
                input, S, out, checkpoints.data == nullptr ? block - position % block : block,
                arena, checkpoints);
    }

    template <class P, class G>
    void backward_head(const P& p, Index N, const Tape& tape, const BackwardScratch& s,
                       G& gradients, Streams dstates, Index b, Index h,
                       Arena& arena) const noexcept;

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
