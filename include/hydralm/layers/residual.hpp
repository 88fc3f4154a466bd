// Residual: x += inner(norm(x)), in place, as a type expression around any module.
#pragma once

#include <string_view>

#include "hydralm/layers/module.hpp"

namespace HYDRALM_NAMESPACE {

// x [B·N, d]. The tensors of norm and inner module are named by the caller, as blocks name them
// (norm1 and mixer, norm2 and mlp).
template <class Norm, class Inner>
class Residual {
    static_assert(
        NormModule<Norm>,
        "hydralm: norm: must be there for Residual to call; write what layers/rms_norm.hpp "
        "has, forward const and noexcept");

public:
    using Scalar = typename Inner::Scalar;
    using State = typename Inner::State;
    static constexpr bool norm_behind = false;

    constexpr Residual() = default;
    constexpr Residual(Norm norm, Inner inner) : norm_(norm), inner_(inner) {}
    constexpr const Norm& norm() const noexcept { return norm_; }
    constexpr const Inner& inner() const noexcept { return inner_; }
    constexpr Index d_model() const noexcept { return norm_.d_model(); }

    template <class Storage>
    struct Parameters {
        typename Norm::template Parameters<Storage> norm{};
        typename Inner::template Parameters<Storage> inner{};
    };
    template <class P, class V>
    constexpr void visit(P& p, V& v, std::string_view norm_name,
                         std::string_view inner_name) const {
        v.nested(norm_name, [&] { norm_.visit(p.norm, v); });
        v.nested(inner_name, [&] { inner_.visit(p.inner, v); });
    }
    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        inner_.visit_state(s, v);
    }

    struct Scratch {
        MatrixView<Scalar> normed;  // [B·N, d]
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        v.matrix(s.normed, call.rows(), d_model());
        v.within(scratch_bytes(inner_, call));
    }
    struct Tape {
        MatrixView<Scalar> x;  // [B·N, d], before the norm, which is computed again
        TapeOf<Inner> inner;
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.x, call.rows(), d_model());
        static_assert(trainable<Inner>,
                      "hydralm: module: must have a tape to be trained; write Tape, visit_tape and "
                      "backward as layers/module.hpp says");
        inner_.visit_tape(t.inner, v, call);
    }
    struct BackwardScratch {
        MatrixView<Scalar> normed, dnormed;  // [B·N, d]
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        v.matrix(s.normed, call.rows(), d_model());
        v.matrix(s.dnormed, call.rows(), d_model());
        v.within(backward_scratch_bytes(inner_, call.streams, call.tokens));
        v.within(norm_.backward_bytes(call.rows()));
    }

    // As layers/module.hpp says, in place.
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<Scalar> x, Form form,
                 Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {streams.count(), N, form, records<R>});
        if constexpr (records<R>)
            for (Index r = 0; r < x.rows(); ++r) std::copy_n(x.row(r), d_model(), tape.x.row(r));
        norm_.forward(p.norm, x, s.normed);
        inner_.forward(p.inner, streams, N, s.normed, x, form, Write::add, arena,
                       part_of(tape, [](const auto& t) -> auto& { return t.inner; }));
    }

    // As layers/module.hpp says; x is read alone.
    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const Scalar> x, Scalar* map,
                 Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {.tokens = N});
        norm_.forward(p.norm, x, s.normed);
        inner_.advance(p.inner, streams, N, s.normed, map, arena);
    }

    // dx: in, the gradient of the sum; out, that of x.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<Scalar> dx, G& gradients, Streams dstates,
                  Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const BackwardScratch s = take_backward_scratch(*this, arena, streams.count(), N);
        norm_.forward(p.norm, tape.x, s.normed);
        inner_.backward(p.inner, transposed.inner, tape.inner, streams, N, s.normed, dx, s.dnormed,
                        gradients.inner, dstates, arena);
        norm_.backward(p.norm, tape.x, s.dnormed, dx, gradients.norm, arena, dx);
    }

private:
    [[no_unique_address]] Norm norm_;
    [[no_unique_address]] Inner inner_;
};

// x += norm(inner(x)), in place: the norm behind. Otherwise as Residual.
template <class Norm, class Inner>
class PostNormResidual {
public:
    using Scalar = typename Inner::Scalar;
    using State = typename Inner::State;
    static constexpr bool norm_behind = true;

    constexpr PostNormResidual() = default;
    constexpr PostNormResidual(Norm norm, Inner inner) : norm_(norm), inner_(inner) {}
    constexpr const Norm& norm() const noexcept { return norm_; }
    constexpr const Inner& inner() const noexcept { return inner_; }
    constexpr Index d_model() const noexcept { return norm_.d_model(); }

    template <class Storage>
    using Parameters = typename Residual<Norm, Inner>::template Parameters<Storage>;
    template <class P, class V>
    constexpr void visit(P& p, V& v, std::string_view norm_name,
                         std::string_view inner_name) const {
        Residual<Norm, Inner>(norm_, inner_).visit(p, v, norm_name, inner_name);
    }
    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        inner_.visit_state(s, v);
    }

    struct Scratch {
        MatrixView<Scalar> added;  // [B·N, d]
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        v.matrix(s.added, call.rows(), d_model());
        v.within(scratch_bytes(inner_, call));
    }
    struct Tape {
        MatrixView<Scalar> x, y;  // [B·N, d], into the inner module and out of it
        TapeOf<Inner> inner;
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.x, call.rows(), d_model());
        v.matrix(t.y, call.rows(), d_model());
        static_assert(trainable<Inner>,
                      "hydralm: module: must have a tape to be trained; write Tape, visit_tape and "
                      "backward as layers/module.hpp says");
        inner_.visit_tape(t.inner, v, call);
    }
    struct BackwardScratch {
        MatrixView<Scalar> dy, dinner;  // [B·N, d]
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        v.matrix(s.dy, call.rows(), d_model());
        v.matrix(s.dinner, call.rows(), d_model());
        v.within(backward_scratch_bytes(inner_, call.streams, call.tokens));
        v.within(norm_.backward_bytes(call.rows()));
    }

    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<Scalar> x, Form form,
                 Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {streams.count(), N, form, records<R>});
        MatrixView<Scalar> y = s.added;
        if constexpr (records<R>) {
            for (Index r = 0; r < x.rows(); ++r) std::copy_n(x.row(r), d_model(), tape.x.row(r));
            y = tape.y;
        }
        inner_.forward(p.inner, streams, N, x, y, form, Write::assign, arena,
                       part_of(tape, [](const auto& t) -> auto& { return t.inner; }));
        norm_.forward(p.norm, MatrixView<const Scalar>(y), s.added);
        for (Index r = 0; r < x.rows(); ++r) out(d_model(), x.row(r)) += in(s.added.row(r));
    }
    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const Scalar> x, Scalar* map,
                 Arena& arena) const noexcept {
        inner_.advance(p.inner, streams, N, x, map, arena);
    }

    // dx: in, the gradient of the sum; out, that of x.
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<Scalar> dx, G& gradients, Streams dstates,
                  Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const BackwardScratch s = take_backward_scratch(*this, arena, streams.count(), N);
        norm_.backward(p.norm, tape.y, dx, s.dy, gradients.norm, arena);
        inner_.backward(p.inner, transposed.inner, tape.inner, streams, N, tape.x, s.dy, s.dinner,
                        gradients.inner, dstates, arena);
        for (Index r = 0; r < dx.rows(); ++r) out(d_model(), dx.row(r)) += in(s.dinner.row(r));
    }

private:
    [[no_unique_address]] Norm norm_;
    [[no_unique_address]] Inner inner_;
};

}  // namespace HYDRALM_NAMESPACE
