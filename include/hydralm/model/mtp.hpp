// MtpModule: one module of multi-token prediction, from a hidden state and the token that follows
// it to the hidden state one token on.
//
//   u = proj [rms(h; norm_h); rms(embed[token]; norm_e)],  h' = u + mlp(rms(u; norm_mlp))
//
// Module i maps h^i_t and token t+i+1 to h^{i+1}_t, whose logits under the model's final norm and
// head are for token t+i+2; h⁰ is the stack's output after the final norm.
// Source: DeepSeek-V3 (arXiv 2412.19437) §2.2, with an MLP as the block.
#pragma once

#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/layers/residual.hpp"
#include "hydralm/layers/swiglu.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, class MlpShape, class NormShape>
class MtpModule {
public:
    using Scalar = T;
    using MlpPart = Residual<PreNorm<SwiGLU<T, MlpShape>, NormShape>>;

    constexpr const MlpPart& mlp_part() const noexcept { return mlp_; }
    constexpr Index d_model() const noexcept { return mlp_.shape().d_model; }
    constexpr double epsilon() const noexcept { return mlp_.shape().epsilon; }

    template <class Storage>
    struct Parameters {
        typename Storage::Vector norm_h{};  // [d]
        typename Storage::Vector norm_e{};  // [d]
        typename Storage::Matrix proj{};    // [d, 2d], the state's columns first
        typename MlpPart::template Parameters<Storage> mlp{};
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = d_model();
        v.vector(p.norm_h, "norm_h.weight", ParameterKind::norm, d);
        v.vector(p.norm_e, "norm_e.weight", ParameterKind::norm, d);
        v.matrix(p.proj, "proj.weight", ParameterKind::projection, d, 2 * d);
        mlp_.visit(p.mlp, v, "norm_mlp", "mlp");
    }

    constexpr Index workspace_bytes(Index rows) const noexcept {
        return arena_bytes<T>(rows * 2 * d_model()) + mlp_.workspace_bytes(rows, 1);
    }

    // out = h' for M rows; h, embedded, out [M, d]; out overlaps neither. No allocation; never
    // throws.
    void forward(const Parameters<PackedStorage<T>>& p, MatrixView<const T> h,
                 MatrixView<const T> embedded, MatrixView<T> out, Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Index M = h.rows(), d = d_model();
        const MatrixView<T> both(arena.take<T>(M * 2 * d), M, 2 * d);
        normalise(p, h, embedded, both);
        kernels::matmul(both, p.proj, out, kernels::Assign{});
        mlp_.forward(p.mlp, Streams(nullptr, M), 1, out, Form::recurrent, arena);
    }

    // both [M, 2d] = [rms(h; norm_h), rms(embedded; norm_e)].
    void normalise(const Parameters<PackedStorage<T>>& p, MatrixView<const T> h,
                   MatrixView<const T> embedded, MatrixView<T> both) const noexcept {
        const Index d = d_model();
        kernels::rms_norm(h, std::span<const T>(p.norm_h), epsilon(), both.middle_cols(0, d));
        kernels::rms_norm(embedded, std::span<const T>(p.norm_e), epsilon(),
                          both.middle_cols(d, d));
    }

private:
    [[no_unique_address]] MlpPart mlp_;
};

}  // namespace HYDRALM_NAMESPACE
