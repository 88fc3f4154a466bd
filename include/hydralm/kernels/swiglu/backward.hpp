// Gradient of SwiGLU's element-wise part: both halves in one loop, with one exponential an element.
//
// Matches reference::swiglu_backward within 24 units in the last place of |dy u| and |dy g|.
#pragma once

#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

template <class Batch>
struct GateGradient {
    Batch gate, up;
};

template <class Batch>
GateGradient<Batch> swiglu_gradient(const Batch& g, const Batch& u, const Batch& dy) noexcept {
    const Batch one(1), s = simd::sigmoid(g);
    return {dy * u * s * (one + g * (one - s)), dy * g * s};
}

}  // namespace detail

// dg = dy u σ(g) (1 + g (1 − σ(g))),  du = dy g σ(g).
//
// gate_up [N,2h] = [g, u] as swiglu read it, dy [N,h], d_gate_up [N,2h] = [dg, du]; any N, h ≥ 0,
// any strides. Writes d_gate_up, which may be gate_up. No allocation, no errors. Cost: one
// exponential and one division an element.
template <Real T>
void swiglu_backward(MatrixView<const std::type_identity_t<T>> gate_up,
                     MatrixView<const std::type_identity_t<T>> dy,
                     MatrixView<T> d_gate_up) noexcept {
    constexpr Index width = simd::lanes<T>;
    const Index h = dy.cols();
    for_rows(dy.rows(), 8 * h, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const T *gate = gate_up.row(n), *up = gate + h, *incoming = dy.row(n);
            T *dgate = d_gate_up.row(n), *dup = dgate + h;
            Index i = 0;
            for (; i + width <= h; i += width) {
                const auto d = detail::swiglu_gradient(simd::load(gate + i), simd::load(up + i),
                                                       simd::load(incoming + i));
                simd::store(dgate + i, d.gate);
                simd::store(dup + i, d.up);
            }
            if (const Index rest = h - i; rest > 0) {
                const auto d = detail::swiglu_gradient(simd::load_partial(gate + i, rest),
                                                       simd::load_partial(up + i, rest),
                                                       simd::load_partial(incoming + i, rest));
                simd::store_partial(dgate + i, d.gate, rest);
                simd::store_partial(dup + i, d.up, rest);
            }
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
