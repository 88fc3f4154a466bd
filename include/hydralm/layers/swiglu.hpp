// SwiGLU: the MLP of a block.  [g; u] = w_fused x,  y = w_down (silu(g) ⊙ u).
#pragma once

#include <array>

#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/layers/parameters.hpp"
#include "hydralm/layers/shape.hpp"
#include "hydralm/state/stream_state.hpp"

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

    template <class Storage>
    struct Parameters {
        std::array<typename Storage::Matrix, 2> w_fused{};  // gate [h, d], up [h, d]
        typename Storage::Matrix w_down{};                  // [d, h]
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.fused(p.w_fused, "w_fused.weight", ParameterKind::projection, shape_.hidden,
                shape_.d_model);
        v.matrix(p.w_down, "w_down.weight", ParameterKind::residual_projection, shape_.d_model,
                 shape_.hidden);
    }

    struct State {};
    template <class S, class V>
    constexpr void visit_state(S&, V&) const {}

    constexpr Index workspace_bytes(Index B, Index N, Form = Form::parallel) const noexcept {
        return arena_bytes<T>(B * N * shape_.hidden);
    }

    // As GatedDeltaNet::forward; the form makes no difference. Cost: O(B·N·d·h).
    void forward(const Parameters<PackedStorage<T>>& p, Streams, Index, MatrixView<const T> x,
                 MatrixView<T> y, Form, Write write, Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const MatrixView<T> hidden(arena.take<T>(x.rows() * shape_.hidden), x.rows(),
                                   shape_.hidden);
        kernels::matmul_swiglu(x, p.w_fused[0], p.w_fused[1], hidden);
        if (write == Write::add) kernels::matmul(hidden, p.w_down, y, kernels::Add{});
        else kernels::matmul(hidden, p.w_down, y, kernels::Assign{});
    }

private:
    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
