// PreNorm and Residual: x ↦ x + module(rms(x; norm)), as a type expression around any module.
#pragma once

#include <string_view>

#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/layers/parameters.hpp"
#include "hydralm/layers/shape.hpp"
#include "hydralm/state/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

// y (+)= inner(rms(x; w)),  rms(x; w) = x·(mean(x²) + ε)^(−1/2) ⊙ w. The norm and the inner
// module's tensors are named by the caller, as blocks name them (norm1 and mixer, norm2 and mlp).
template <class Inner, class Shape = RuntimeNormShape>
class PreNorm {
public:
    using Scalar = typename Inner::Scalar;
    using State = typename Inner::State;

    constexpr PreNorm() = default;
    constexpr PreNorm(Inner inner, Shape shape) : inner_(inner), shape_(shape) {}
    constexpr const Inner& inner() const noexcept { return inner_; }
    constexpr const Shape& shape() const noexcept { return shape_; }

    template <class Storage>
    struct Parameters {
        typename Storage::Vector norm{};
        typename Inner::template Parameters<Storage> inner{};
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v, std::string_view norm_name,
                         std::string_view inner_name) const {
        v.nested(norm_name,
                 [&] { v.vector(p.norm, "weight", ParameterKind::norm, shape_.d_model); });
        v.nested(inner_name, [&] { inner_.visit(p.inner, v); });
    }
    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        inner_.visit_state(s, v);
    }

    constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        return arena_bytes<Scalar>(B * N * shape_.d_model) + inner_.workspace_bytes(B, N, form);
    }

    void forward(const Parameters<PackedStorage<Scalar>>& p, Streams streams, Index N,
                 MatrixView<const Scalar> x, MatrixView<Scalar> y, Form form, Write write,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const MatrixView<Scalar> normed(arena.take<Scalar>(x.rows() * shape_.d_model), x.rows(),
                                        shape_.d_model);
        kernels::rms_norm(x, std::span<const Scalar>(p.norm), shape_.epsilon, normed);
        inner_.forward(p.inner, streams, N, normed, y, form, write, arena);
    }

private:
    [[no_unique_address]] Inner inner_;
    [[no_unique_address]] Shape shape_;
};

// x += inner(x), in place.
template <class Inner>
class Residual : public Inner {
public:
    using Inner::Inner;
    using Scalar = typename Inner::Scalar;

    void forward(const typename Inner::template Parameters<PackedStorage<Scalar>>& p,
                 Streams streams, Index N, MatrixView<Scalar> x, Form form,
                 Arena& arena) const noexcept {
        Inner::forward(p, streams, N, x, x, form, Write::add, arena);
    }
};

}  // namespace HYDRALM_NAMESPACE
