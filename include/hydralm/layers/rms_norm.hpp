// RmsNorm: the norm in front of mixers, MLPs and the head.  rms(x; w) = x·(mean(x²) + ε)^(−1/2) ⊙ w
//
// What Residual and LanguageModel ask of a norm is what is here; a user's own may take its place.
#pragma once

#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/layers/shape.hpp"

namespace HYDRALM_NAMESPACE {

// Source: Zhang and Sennrich (arXiv 1910.07467). Shape: NormShape or RuntimeNormShape.
template <Real T, class Shape = RuntimeNormShape>
class RmsNorm {
public:
    using Scalar = T;

    constexpr RmsNorm() = default;
    constexpr explicit RmsNorm(Shape shape) : shape_(shape) {}
    constexpr const Shape& shape() const noexcept { return shape_; }
    constexpr Index d_model() const noexcept { return shape_.d_model; }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("rms_norm");
        v.option("d_model", shape_.d_model);
        v.option("epsilon", shape_.epsilon);
    }

    template <class Storage>
    struct Parameters {
        typename Storage::Vector weight{};  // [d]
    };
    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.vector(p.weight, "weight", laws::norm, shape_.d_model);
    }

    // y = rms(x; w), x and y [M, d]; y may be x. No allocation; never throws.
    template <class P>
    void forward(const P& p, MatrixView<const T> x, MatrixView<T> y) const noexcept {
        kernels::rms_norm(x, std::span<const T>(p.weight), shape_.epsilon, y);
    }

    // dx = past + the gradient of x, past an empty view for 0: what reaches x beside the norm.
    // gradients added to. dx may be dy or past. arena: backward_bytes(M), given back.
    template <class P, class G>
    void backward(const P& p, MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx,
                  G& gradients, Arena& arena, MatrixView<const T> past = {}) const noexcept {
        kernels::rms_norm_backward<T>(x, p.weight, shape_.epsilon, dy, dx, gradients.weight, arena,
                                      past);
    }
    constexpr Index backward_bytes(Index M) const noexcept {
        return kernels::rms_norm_backward_workspace_bytes<T>(M, shape_.d_model);
    }

private:
    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
