// Gradient of PreNorm and Residual. Kept: x before the norm, beside the inner module's tape; the
// norm is computed again.
#pragma once

#include <algorithm>

#include "hydralm/layers/residual.hpp"
#include "hydralm/layers/training.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says, in place: x += inner(rms(x)), and dx from the gradient of the sum to
// that of x.
template <class Inner, class Shape>
class Training<Residual<PreNorm<Inner, Shape>>> {
public:
    using Module = Residual<PreNorm<Inner, Shape>>;
    using T = typename Module::Scalar;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> x;  // [B·N, d]
        typename Training<Inner>::Tape inner;
    };

    constexpr explicit Training(const Module& module)
        : inner_(module.inner()), shape_(module.shape()) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        return rows_bytes(B * N) + inner_.tape_bytes(B, N);
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        return 2 * rows_bytes(B * N) + inner_.workspace_bytes(B, N) +
               kernels::rms_norm_backward_workspace_bytes<T>(B * N, shape_.d_model);
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N, MatrixView<T> x,
                Tape& tape, Arena& kept, Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        tape.x = detail::take_matrix<T>(kept, x.rows(), shape_.d_model);
        std::copy_n(x.data(), x.rows() * shape_.d_model, tape.x.data());
        inner_.record(p.inner, streams, N, normed(p, tape, scratch), x, Write::add, tape.inner,
                      kept, scratch);
    }

    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients,
                  Streams dstates, Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const auto dnormed = detail::take_matrix<T>(scratch, dx.rows(), shape_.d_model);
        inner_.backward(p.inner, transposed.inner, tape.inner, streams, N, normed(p, tape, scratch),
                        dx, dnormed, gradients.inner, dstates, scratch);
        kernels::rms_norm_backward<T>(tape.x, p.norm, shape_.epsilon, dnormed, dx, gradients.norm,
                                      scratch, dx);
    }

private:
    constexpr Index rows_bytes(Index rows) const noexcept {
        return arena_bytes<T>(rows * shape_.d_model);
    }

    MatrixView<T> normed(const Parameters<PackedStorage<T>>& p, const Tape& tape,
                         Arena& scratch) const noexcept {
        const auto y = detail::take_matrix<T>(scratch, tape.x.rows(), shape_.d_model);
        kernels::rms_norm(tape.x, std::span<const T>(p.norm), shape_.epsilon, y);
        return y;
    }

    [[no_unique_address]] Training<Inner> inner_;
    [[no_unique_address]] Shape shape_;
};

}  // namespace HYDRALM_NAMESPACE
