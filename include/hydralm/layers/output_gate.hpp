// The output gate of a mixer, element by element, where a tape keeps what it is made of.
//
//   y = o ⊙ f(g),  f = silu or σ;  do = dy ⊙ f(g),  dg = dy ⊙ o ⊙ f'(g)
#pragma once

#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/layers/shape.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// g, o, y [M, I], any strides; kind: not none. Writes y, which may be o. No allocation, no errors.
template <Real T>
void apply_output_gate(OutputGate kind, MatrixView<const std::type_identity_t<T>> g,
                       MatrixView<const std::type_identity_t<T>> o, MatrixView<T> y) noexcept {
    const Index I = y.cols();
    kernels::for_rows(y.rows(), 8 * I, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const auto gate = in(g.row(n)), value = in(o.row(n));
            if (kind == OutputGate::silu) out(I, y.row(n)) = value * silu(gate);
            else out(I, y.row(n)) = value * sigmoid(gate);
        }
    });
}

// Writes dg and do_ [M, I]; do_ may be dy. Otherwise as apply_output_gate.
template <Real T>
void apply_output_gate_backward(OutputGate kind, MatrixView<const std::type_identity_t<T>> g,
                                MatrixView<const std::type_identity_t<T>> o,
                                MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dg,
                                MatrixView<T> do_) noexcept {
    const Index I = dg.cols();
    kernels::for_rows(dg.rows(), 12 * I, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const auto gate = in(g.row(n)), value = in(o.row(n)), d = in(dy.row(n));
            const auto s = sigmoid(gate);
            if (kind == OutputGate::silu)
                out(I, dg.row(n), do_.row(n)) =
                    values(d * value * s * (1 + gate * (1 - s)), d * gate * s);
            else out(I, dg.row(n), do_.row(n)) = values(d * value * s * (1 - s), d * s);
        }
    });
}

}  // namespace HYDRALM_NAMESPACE
