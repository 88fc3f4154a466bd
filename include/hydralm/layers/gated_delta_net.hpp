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
#include "hydralm/layers/parameters.hpp"
#include "hydralm/layers/shape.hpp"
#include "hydralm/layers/stream_state.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// The epilogue y ⊙= silu(x·Wᵀ).
struct MultiplySilu {
    template <class Batch, Real T>
    Batch operator()(const Batch& sum, const T* y, Index, Index count) const noexcept {
        return kernels::detail::load_some(y, count) * simd::silu(sum);
    }
};

}  // namespace detail

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
    // β = beta_scale · σ(b).
    constexpr T beta_scale() const noexcept { return shape_.negative_eigenvalues ? T(2) : T(1); }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};   // [3I, d]
        typename Storage::Matrix ab_proj{};    // [2H, d]
        typename Storage::Vector ab_bias{};    // [2H], α half first
        typename Storage::Taps conv{};         // 3I channels, K taps
        typename Storage::Vector conv_bias{};  // [3I]
        typename Storage::Matrix gate_proj{};  // [I, d], when gated
        typename Storage::Matrix o_proj{};     // [d, I]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = shape_.d_model, H = shape_.n_heads, I = inner();
        v.matrix(p.qkv_proj, "qkv_proj.weight", ParameterKind::projection, 3 * I, d, 3);
        v.matrix(p.ab_proj, "ab_proj.weight", ParameterKind::gate, 2 * H, d);
        v.vector(p.ab_bias, "ab_proj.bias", ParameterKind::decay_bias, 2 * H);
        v.taps(p.conv, "short_conv.conv.weight", 3 * I, shape_.conv_kernel);
        v.vector(p.conv_bias, "short_conv.conv.bias", ParameterKind::convolution_bias, 3 * I);
        if (shape_.use_gate) v.matrix(p.gate_proj, "gate_proj.weight", ParameterKind::gate, I, d);
        v.matrix(p.o_proj, "o_proj.weight", ParameterKind::residual_projection, d, I);
    }

    struct State {
        T* conv_cache;  // [K−1, 3I], the last inputs of the convolution, oldest first
        T* memory;      // [H, D, D], Sᵀ: rows are keys, columns are values
    };

    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.array(s.conv_cache, (shape_.conv_kernel - 1) * 3 * inner());
        v.array(s.memory, shape_.n_heads * HeadDim * HeadDim);
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

    // Scratch for B sequences of N tokens.
    constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        const Index rows = B * N;
        return buffer_bytes(rows) + B * shape_.n_heads * head_scratch(form);
    }

    // x [B·N, d], row b·N + n is token n of stream b; y [B·N, d] is replaced or added to. The
    // streams' states advance by N tokens (their positions are the caller's). x and y must not
    // overlap. No allocation; never throws. Cost: O(B·N·(d·I + H·D²)).
    void forward(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                 MatrixView<const T> x, MatrixView<T> y, Form form, Write write,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count(), rows = B * N, H = shape_.n_heads;
        Arena* const history = streams.history();
        const State before = history != nullptr ? take_state(*history) : State{};
        if (history != nullptr)
            std::copy_n(bind_state(*this, streams, 0).conv_cache, cache_size(), before.conv_cache);
        const auto [qkv, mixed, gates, o] =
            take_buffers(history != nullptr ? *history : arena, rows);
        const Index scratch_size = head_scratch(form);
        std::byte* const scratch = arena.take<std::byte>(B * H * scratch_size);

        kernels::matmul(x, p.qkv_proj, qkv, kernels::Assign{});
        kernels::matmul(x, p.ab_proj, gates, kernels::AddBias<T>{p.ab_bias.data()});
        for (Index r = 0; r < rows; ++r) {
            for (Index h = 0; h < H; ++h)
                gates(r, h) = -simd::softplus(-gates(r, h));  // g = ln σ(a)
            simd::map(
                H, gates.row(r) + H,
                [s = simd::Batch<T>(beta_scale())](auto b) { return s * simd::sigmoid(b); },
                gates.row(r) + H);
        }
        parallel_for(
            B * H,
            [&](Index task) {
                const Index b = task / H, h = task % H;
                const auto state = bind_state(*this, streams, b);
                if (history != nullptr) copy_head(state.memory, before.memory, h);
                Arena own({scratch + task * scratch_size, static_cast<std::size_t>(scratch_size)});
                mix_head(p, state, streams.position(b), qkv.middle_rows(b * N, N),
                         mixed.middle_rows(b * N, N), gates.middle_rows(b * N, N),
                         o.middle_rows(b * N, N), h, form, own);
            },
            rows * H * HeadDim * HeadDim > 32768);
        if (shape_.use_gate) kernels::matmul(x, p.gate_proj, o, detail::MultiplySilu{});
        if (write == Write::add) kernels::matmul(o, p.o_proj, y, kernels::Add{});
        else kernels::matmul(o, p.o_proj, y, kernels::Assign{});
    }

    // Arena of a stream's history that a call of N tokens takes.
    constexpr Index history_bytes(Index N) const noexcept {
        return arena_bytes<T>(cache_size()) + arena_bytes<T>(memory_size()) + buffer_bytes(N);
    }
    // Back to the state after the first kept of the N tokens of the last call, which took history.
    // What the delta rule adds for each is done again; nothing else is. No allocation.
    void rollback(const State& state, std::int64_t, Index N, Index kept,
                  Arena& history) const noexcept {
        const Index H = shape_.n_heads, D = HeadDim;
        const State before = take_state(history);
        const auto [qkv, mixed, gates, o] = take_buffers(history, N);
        const Index rows = shape_.conv_kernel - 1, channels = 3 * inner();
        kernels::short_conv_rewind<T>(MatrixView<const T>(before.conv_cache, rows, channels), qkv,
                                      kept, {state.conv_cache, rows, channels});
        parallel_for(
            H,
            [&](Index h) {
                copy_head(before.memory, state.memory, h);
                kernels::gated_delta_recurrent(
                    delta_input(mixed.middle_rows(0, kept), gates.middle_rows(0, kept), h),
                    MatrixView<T, HeadDim>(state.memory + h * D * D, D),
                    o.middle_rows(0, kept).template middle_cols<HeadDim>(h * D));
            },
            kept * H * D * D > 32768);
    }

private:
    struct Buffers {
        MatrixView<T> qkv, mixed;  // [rows, 3I], before and after the convolution
        MatrixView<T> gates;       // [rows, 2H], ln α and β
        MatrixView<T> o;           // [rows, I]
    };
    constexpr Index cache_size() const noexcept { return (shape_.conv_kernel - 1) * 3 * inner(); }
    constexpr Index memory_size() const noexcept { return shape_.n_heads * HeadDim * HeadDim; }
    State take_state(Arena& arena) const noexcept {
        T* const cache = arena.take<T>(cache_size());
        return {cache, arena.take<T>(memory_size())};
    }
    static void copy_head(const T* from, T* to, Index h) noexcept {
        std::copy_n(from + h * HeadDim * HeadDim, HeadDim * HeadDim, to + h * HeadDim * HeadDim);
    }
    constexpr Index buffer_bytes(Index rows) const noexcept {
        return 2 * arena_bytes<T>(rows * 3 * inner()) + arena_bytes<T>(rows * 2 * shape_.n_heads) +
               arena_bytes<T>(rows * inner());
    }
    Buffers take_buffers(Arena& arena, Index rows) const noexcept {
        const auto take = [&](Index cols) {
            return MatrixView<T>(arena.take<T>(rows * cols), rows, cols);
        };
        const auto qkv = take(3 * inner()), mixed = take(3 * inner());
        const auto gates = take(2 * shape_.n_heads);
        return {qkv, mixed, gates, take(inner())};
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
    static constexpr Index head_scratch(Form form) noexcept {
        return form == Form::recurrent
                   ? 0
                   : round_up(kernels::gated_delta_workspace_bytes<T, HeadDim>(block),
                              static_cast<Index>(alignment));
    }

    constexpr Index inner() const noexcept { return shape_.n_heads * HeadDim; }

    // Convolution, normalisation and delta rule of head h of one stream: everything here touches
    // only that head's columns. qkv, mixed [N, 3I]; gates [N, 2H]; o [N, I].
    void mix_head(const Parameters<PackedStorage<T>>& p, const State& state, std::int64_t position,
                  MatrixView<const T> qkv, MatrixView<T> mixed, MatrixView<const T> gates,
                  MatrixView<T> o, Index h, Form form, Arena& arena) const noexcept {
        const Index I = inner(), kept = shape_.conv_kernel - 1;
        const MatrixView<T> cache(state.conv_cache, kept, 3 * I);
        for (Index part = 0; part < 3; ++part) {
            const Index first = part * I + h * HeadDim;
            const MatrixView<const T> taps = p.conv.middle_cols(first, HeadDim);
            kernels::short_conv(qkv.middle_cols(first, HeadDim), taps, p.conv_bias.data() + first,
                                cache.middle_cols(first, HeadDim),
                                mixed.middle_cols(first, HeadDim),
                                [](auto z) { return simd::silu(z); });
            if (part < 2 && shape_.norm_qk)
                kernels::l2_normalize<HeadDim>(mixed.middle_cols(first, HeadDim));
        }
        const auto input = delta_input(mixed, gates, h);
        const MatrixView<T, HeadDim> S(state.memory + h * HeadDim * HeadDim, HeadDim);
        const auto out = o.template middle_cols<HeadDim>(h * HeadDim);
        if (form == Form::recurrent) kernels::gated_delta_recurrent(input, S, out);
        else kernels::gated_delta_chunkwise<block>(input, S, out, block - position % block, arena);
    }

    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
