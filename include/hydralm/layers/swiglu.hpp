// SwiGLU: the MLP of a block.  [g; u] = w_fused x,  y = w_down (silu(g) ⊙ u).
#pragma once

#include <array>

#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/kernels/swiglu/forward.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// Source: Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202). No state.
template <Real T, class Shape = RuntimeMlpShape>
class SwiGLU {
    static_assert(MlpShaped<Shape>,
                  "hydralm: shape: must be one of this module's; give SwiGLU a MlpShape or a "
                  "RuntimeMlpShape");

public:
    using Scalar = T;

    constexpr SwiGLU() = default;
    constexpr explicit SwiGLU(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("swiglu");
        v.option("d_model", shape_.d_model);
        v.option("hidden", shape_.hidden);
    }

    template <class Storage>
    struct Parameters {
        std::array<typename Storage::Matrix, 2> w_fused{};  // gate [h, d], up [h, d]
        typename Storage::Matrix w_down{};                  // [d, h]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.fused(p.w_fused, "w_fused.weight", laws::projection, shape_.hidden, shape_.d_model);
        v.matrix(p.w_down, "w_down.weight", laws::residual_projection, shape_.d_model,
                 shape_.hidden);
    }

    struct State {};
    template <class S, class V>
    constexpr void visit_state(S&, V&) const {}

    struct Scratch {
        MatrixView<T> hidden;  // [B·N, h], silu(g) ⊙ u
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        v.matrix(s.hidden, call.rows(), shape_.hidden);
    }
    struct Tape {
        MatrixView<T> gate_up;  // [B·N, 2h], g and u
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.gate_up, call.rows(), 2 * shape_.hidden);
    }
    struct BackwardScratch {
        MatrixView<T> hidden, dhidden;  // [B·N, h]
        MatrixView<T> dgate_up;         // [B·N, 2h]
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        v.matrix(s.hidden, call.rows(), shape_.hidden);
        v.matrix(s.dhidden, call.rows(), shape_.hidden);
        v.matrix(s.dgate_up, call.rows(), 2 * shape_.hidden);
    }

    // As layers/module.hpp says; the form makes no difference. Cost: O(B·N·d·h).
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y, Form,
                 Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {streams.count(), N});
        if constexpr (records<R>) {
            const Index h = shape_.hidden;
            kernels::matmul(x, p.w_fused[0], tape.gate_up.middle_cols(0, h));
            kernels::matmul(x, p.w_fused[1], tape.gate_up.middle_cols(h, h));
            kernels::swiglu<T>(tape.gate_up, s.hidden);
        } else {
            kernels::matmul_swiglu(x, p.w_fused[0], p.w_fused[1], s.hidden, &arena);
        }
        project(s.hidden, p.w_down, y, write, &arena);
    }

    // As layers/module.hpp says; defined in swiglu_backward.hpp.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept;

private:
    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
