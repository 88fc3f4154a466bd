// MtpModule: one module of multi-token prediction, from a hidden state and the token that follows
// it to the hidden state one token on.
//
//   u = proj [norm_h(h); norm_e(embed[token])],  h' = u + mlp(norm_mlp(u))
//
// Module i maps h^i_t and token t+i+1 to h^{i+1}_t, whose logits under the model's final norm and
// head are for token t+i+2; h⁰ is the stack's output after the final norm.
// Source: DeepSeek-V3 (arXiv 2412.19437) §2.2, with an MLP as the block.
#pragma once

#include <array>

#include "hydralm/layers/residual.hpp"

namespace HYDRALM_NAMESPACE {

template <class Mlp, class Norm>
class MtpModule {
public:
    using T = typename Mlp::Scalar;
    using MlpPart = Residual<Norm, Mlp>;

    constexpr MtpModule() = default;
    constexpr MtpModule(Mlp mlp, Norm norm) : mlp_(norm, mlp) {}
    constexpr Index d_model() const noexcept { return mlp_.d_model(); }

    template <class V>
    constexpr void describe(V& v) const {
        v.module("mtp_module");
        v.option("d_model", d_model());
        v.part("mlp", mlp_.inner());
        v.part("norm", norm());
    }

    template <class Storage>
    struct Parameters {
        typename Norm::template Parameters<Storage> norm_h{}, norm_e{};  // [d]
        typename Storage::Matrix proj{};                                 // [d, 2d], state first
        typename MlpPart::template Parameters<MlpStorage<Storage>> mlp{};
    };
    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        const Index d = d_model();
        v.nested("norm_h", [&] { norm().visit(p.norm_h, v); });
        v.nested("norm_e", [&] { norm().visit(p.norm_e, v); });
        v.matrix(p.proj, "proj.weight", laws::projection, d, 2 * d);
        v.within_mlp([&] { mlp_.visit(p.mlp, v, "norm_mlp", "mlp"); });
    }

    // A call of M rows is one of M streams and a token of each.
    struct Scratch {
        MatrixView<T> both;  // [M, 2d], [norm_h(h), norm_e(embedded)]; with no tape
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        if (!call.recorded) v.matrix(s.both, call.rows(), 2 * d_model());
        v.within(scratch_bytes(mlp_, call));
    }
    struct Tape {
        MatrixView<T> both;  // [M, 2d]
        typename MlpPart::Tape mlp;
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.both, call.rows(), 2 * d_model());
        mlp_.visit_tape(t.mlp, v, call);
    }
    struct BackwardScratch {
        MatrixView<T> dboth;  // [M, 2d]
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        v.matrix(s.dboth, call.rows(), 2 * d_model());
        v.within(backward_scratch_bytes(mlp_, call.streams, call.tokens));
        v.within(norm().backward_bytes(call.rows()));
    }

    // out = h' for M rows; h, embedded, out [M, d]; out overlaps neither. No allocation; never
    // throws.
    template <class P, class R = NoTape>
    void forward(const P& p, MatrixView<const T> h, MatrixView<const T> embedded, MatrixView<T> out,
                 Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index M = h.rows(), d = d_model();
        const Form form = records<R> ? Form::parallel : Form::recurrent;
        const Scratch s = take_scratch(*this, arena, {M, 1, form, records<R>});
        MatrixView<T> both = s.both;
        if constexpr (records<R>) both = tape.both;
        norm().forward(p.norm_h, h, both.middle_cols(0, d));
        norm().forward(p.norm_e, embedded, both.middle_cols(d, d));
        kernels::matmul(both, p.proj, out, acc, &arena);
        mlp_.forward(p.mlp, Streams(nullptr, M), 1, out, form, arena,
                     part_of(tape, [](const auto& t) -> auto& { return t.mlp; }));
    }

    // dout [M, d]: the gradient of the output; changed. dh (may be dout) and dembedded [M, d] are
    // written.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, MatrixView<const T> h,
                  MatrixView<const T> embedded, MatrixView<T> dout, MatrixView<T> dh,
                  MatrixView<T> dembedded, G& gradients, Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Streams rows(nullptr, h.rows());
        const Index d = d_model();
        const BackwardScratch s = take_backward_scratch(*this, arena, h.rows(), 1);
        mlp_.backward(p.mlp, transposed.mlp, tape.mlp, rows, 1, dout, gradients.mlp, rows, arena);
        kernels::matmul_gradient(dout, tape.both, gradients.proj);
        kernels::matmul(dout, transposed.proj, s.dboth);
        norm().backward(p.norm_h, h, s.dboth.middle_cols(0, d), dh, gradients.norm_h, arena);
        norm().backward(p.norm_e, embedded, s.dboth.middle_cols(d, d), dembedded, gradients.norm_e,
                        arena);
    }

private:
    constexpr const Norm& norm() const noexcept { return mlp_.norm(); }

    [[no_unique_address]] MlpPart mlp_;
};

inline constexpr Index max_mtp_depth = 16;

// Whether a model may have modules of multi-token prediction; one whose shape is read at run time
// says how many.
template <class Model>
concept predicts_more = requires(const Model& model) { model.weights().mtp[0]; };

// How many modules a model has, and the weight of their loss.
template <Index Depth, class Module, double LossWeight = 0.1>
struct Mtp {
    static_assert(Depth >= 1 && Depth <= max_mtp_depth,
                  "hydralm: mtp: must have 1 to 16 modules; a model without has NoMtp");
    using ModuleType = Module;
    static constexpr Index depth = Depth;
    static constexpr double loss_weight = LossWeight;
};
// A model that predicts one token.
struct NoMtp {
    static constexpr Index depth = 0;
    static constexpr double loss_weight = 0.0;
};

namespace detail {

template <class Drafts>
constexpr auto mtp_module() noexcept {
    if constexpr (Drafts::depth > 0) return typename Drafts::ModuleType{};
    else return NoMtp{};
}

template <class Drafts, class Storage>
struct MtpParametersOf {
    using Type = std::array<typename Drafts::ModuleType::template Parameters<Storage>,
                            static_cast<std::size_t>(Drafts::depth)>;
};
template <class Storage>
struct MtpParametersOf<NoMtp, Storage> {
    struct Type {};
};
template <class Drafts, class Storage>
using MtpParameters = typename MtpParametersOf<Drafts, Storage>::Type;

}  // namespace detail

}  // namespace HYDRALM_NAMESPACE
