// Gradient of MtpModule. Kept: the module's two inputs are the caller's; the normed pair, and the
// tape of the MLP.
#pragma once

#include "hydralm/layers/residual_backward.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/mtp.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, class MlpShape, class NormShape>
class Training<MtpModule<T, MlpShape, NormShape>> {
public:
    using Module = MtpModule<T, MlpShape, NormShape>;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> both;  // [M, 2d]
        typename Training<typename Module::MlpPart>::Tape mlp;
    };

    constexpr explicit Training(const Module& module) : module_(module) {}

    constexpr Index tape_bytes(Index rows) const noexcept {
        return arena_bytes<T>(rows * 2 * d()) + mlp().tape_bytes(rows, 1);
    }
    constexpr Index workspace_bytes(Index rows) const noexcept {
        return std::max(mlp().workspace_bytes(rows, 1),
                        arena_bytes<T>(rows * 2 * d()) +
                            kernels::rms_norm_backward_workspace_bytes<T>(rows, d()));
    }

    void record(const Parameters<PackedStorage<T>>& p, MatrixView<const T> h,
                MatrixView<const T> embedded, MatrixView<T> out, Tape& tape, Arena& kept,
                Arena& scratch) const noexcept {
        tape.both = detail::take_matrix<T>(kept, h.rows(), 2 * d());
        module_.normalise(p, h, embedded, tape.both);
        kernels::matmul(tape.both, p.proj, out, kernels::Assign{});
        mlp().record(p.mlp, Streams(nullptr, h.rows()), 1, out, tape.mlp, kept, scratch);
    }

    // dout [M, d]: the gradient of the output; changed. dh (may be dout) and dembedded [M, d] are
    // written.
    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  MatrixView<const T> h, MatrixView<const T> embedded, MatrixView<T> dout,
                  MatrixView<T> dh, MatrixView<T> dembedded, Parameters<FlatStorage<T>>& gradients,
                  Arena& scratch) const noexcept {
        const Streams rows(nullptr, h.rows());
        mlp().backward(p.mlp, transposed.mlp, tape.mlp, rows, 1, dout, gradients.mlp, rows,
                       scratch);
        const Arena::Scope scope(scratch);
        const auto dboth = detail::take_matrix<T>(scratch, h.rows(), 2 * d());
        kernels::matmul_gradient(dout, tape.both, gradients.proj);
        kernels::matmul(dout, transposed.proj, dboth, kernels::Assign{});
        kernels::rms_norm_backward<T>(h, p.norm_h, module_.epsilon(), dboth.middle_cols(0, d()), dh,
                                      gradients.norm_h, scratch);
        kernels::rms_norm_backward<T>(embedded, p.norm_e, module_.epsilon(),
                                      dboth.middle_cols(d(), d()), dembedded, gradients.norm_e,
                                      scratch);
    }

private:
    constexpr Index d() const noexcept { return module_.d_model(); }
    constexpr auto mlp() const noexcept { return training_of(module_.mlp_part()); }

    [[no_unique_address]] Module module_;
};

}  // namespace HYDRALM_NAMESPACE
