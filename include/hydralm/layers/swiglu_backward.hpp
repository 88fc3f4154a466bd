// Gradient of SwiGLU. Kept: both halves before the gate; silu(g) ⊙ u is computed again.
#pragma once

#include "hydralm/kernels/swiglu/swiglu.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "hydralm/layers/training.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says. Tape: 2h numbers a token.
template <Real T, class Shape>
class Training<SwiGLU<T, Shape>> {
public:
    using Module = SwiGLU<T, Shape>;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> gate_up;  // [B·N, 2h]
    };

    constexpr explicit Training(const Module& module) : module_(module) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        return arena_bytes<T>(B * N * 2 * hidden());
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        return 2 * arena_bytes<T>(B * N * hidden()) + arena_bytes<T>(B * N * 2 * hidden());
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams, Index, MatrixView<const T> x,
                MatrixView<T> y, Write write, Tape& tape, Arena& kept,
                Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        tape.gate_up = detail::take_matrix<T>(kept, x.rows(), 2 * hidden());
        const auto inner = detail::take_matrix<T>(scratch, x.rows(), hidden());
        kernels::matmul(x, p.w_fused[0], tape.gate_up.middle_cols(0, hidden()), kernels::Assign{});
        kernels::matmul(x, p.w_fused[1], tape.gate_up.middle_cols(hidden(), hidden()),
                        kernels::Assign{});
        kernels::swiglu<T>(tape.gate_up, inner);
        detail::project<T>(inner, p.w_down, y, write);
    }

    void backward(const Parameters<PackedStorage<T>>&,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape, Streams,
                  Index, MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx,
                  Parameters<FlatStorage<T>>& gradients, Streams, Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index h = hidden();
        const auto inner = detail::take_matrix<T>(scratch, x.rows(), h);
        const auto dinner = detail::take_matrix<T>(scratch, x.rows(), h);
        const auto dgate_up = detail::take_matrix<T>(scratch, x.rows(), 2 * h);
        kernels::swiglu<T>(tape.gate_up, inner);
        kernels::matmul_gradient(dy, inner, gradients.w_down);
        kernels::matmul(dy, transposed.w_down, dinner, kernels::Assign{});
        kernels::swiglu_backward<T>(tape.gate_up, dinner, dgate_up);
        for (std::size_t i = 0; i < 2; ++i) {
            const auto half = dgate_up.middle_cols(static_cast<Index>(i) * h, h);
            kernels::matmul_gradient(half, x, gradients.w_fused[i]);
            detail::project<T>(half, transposed.w_fused[i], dx,
                               i == 0 ? Write::assign : Write::add);
        }
    }

private:
    constexpr Index hidden() const noexcept { return module_.shape().hidden; }

    [[no_unique_address]] Module module_;
};

}  // namespace HYDRALM_NAMESPACE
