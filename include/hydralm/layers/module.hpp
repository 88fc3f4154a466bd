// Module: what a layer is, for whoever writes one. Mixers, MLPs and what wraps them are modules.
//
// A module of scalar T, x [B·N, d] to y [B·N, d], has
//   Scalar                              T
//   d_model()                           d
//   describe(v)                         v.module("its_name"), then v.option("field", value) for
//                                       what makes it another function; v.part("field", module) of
//                                       a module within: what files compare
//   Parameters<Storage>, visit(p, v)    its tensors: layers/parameters.hpp
//   State, visit_state(s, v)            what it carries on a stream: state/stream_state.hpp
//   Scratch, visit_scratch(s, v, call)  memory of a call: layers/buffers.hpp
//   forward(p, streams, N, x, y, form, write, arena, tape = NoTape{})
//       N tokens of each of B streams: row b·N + n of x and y is token n of stream b; y is replaced
//       or added to. The streams' states advance by N tokens (their positions are the caller's). x
//       and y do not overlap. arena: scratch_bytes, given back. With a tape, in the parallel form,
//       it leaves there what backward needs. Allocates nothing, throws nothing; prefill, batches,
//       steps and training are this one function.
// and, found by the compiler where they are,
//   Tape, visit_tape(t, v, call)        what forward leaves for backward
//   BackwardScratch, visit_backward_scratch(s, v, call)
//   backward(p, transposed, tape, streams, N, x, dy, dx, gradients, dstates, arena)
//       x as forward read it, streams with the positions they had; dx written, apart from dy;
//       gradients (of Parameters<FlatStorage<T>>) added to; dstates, laid out as the states: in,
//       the gradient of the final states; out, that of the first. Sums have a fixed order: the same
//       bits for any number of threads
//   History, visit_history(h, v, N), rollback(state, position, N, kept, arena)
//       what forward in the recurrent form leaves where a stream has a history, and the way back
//       from there to the state after the first kept of its N tokens
//   halo(), advance(p, streams, N, x, map, arena)
//       for a text that is cut (training/text_over_ranks.hpp): of how many tokens before it a run
//       of tokens needs the inputs; and forward of one stream without its outputs: its state
//       advances. arena: forward's scratch_bytes. Of the state,
//       – map_size() numbers at mapped(state) advance by an affine map: advance applies that of its
//         tokens to map too, if it is not null, without what it adds; identity(map) is that of no
//         token; carry(map, before, state) makes state += map · before. Without these functions
//         there are no such numbers
//       – the chunk pages of banks are functions of the run alone: those of chunks [first, end),
//         written elsewhere, are taken in by receive(state, first, end, arena), where there is one
//       – the rest depends on the halo() tokens before alone
//   export_state(state, position, sink)
//       sink(name, shape, std::vector<T>) for every array in the layout of files
#pragma once

#include <concepts>
#include <string_view>

#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/layers/buffers.hpp"
#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

// y (+)= x·Wᵀ. arena: as kernels::matmul's.
template <class Matrix>
void project(MatrixView<const typename Matrix::Scalar> x, const Matrix& w,
             MatrixView<typename Matrix::Scalar> y, Write write, Arena* arena = nullptr) noexcept {
    if (write == Write::add) kernels::matmul(x, w, y, in(y) + acc, arena);
    else kernels::matmul(x, w, y, acc, arena);
}

namespace detail {

// What any visitor may be told.
struct AnyVisitor {
    void module(std::string_view) {}
    void option(std::string_view, auto) {}
    void part(std::string_view, const auto&) {}
    void matrix(auto&&...) {}
    void fused(auto&&...) {}
    void taps(auto&&...) {}
    void vector(auto&&...) {}
    void table(auto&&...) {}
    void nested(std::string_view, const auto&) {}
    void array(auto&&...) {}
    void growing(auto&&...) {}
    void tasks(auto&&...) {}
    void within(Index) {}
};

}  // namespace detail

// The parts of the concept, each for itself: a message names the one that is missed.
template <class M>
concept HasScalar = Real<typename M::Scalar>;
template <class M>
concept HasWidth = requires(const M& m) {
    { m.d_model() } -> std::convertible_to<Index>;
};
template <class M>
concept HasDescription = requires(const M& m, detail::AnyVisitor& v) { m.describe(v); };
template <class M>
concept HasParameters = requires(const M& m, typename M::template Parameters<NoStorage>& p,
                                 detail::AnyVisitor& v) { m.visit(p, v); };
template <class M>
concept HasState =
    requires(const M& m, typename M::State& s, detail::AnyVisitor& v) { m.visit_state(s, v); };
template <class M>
concept HasScratch = requires(const M& m, typename M::Scratch& s, detail::AnyVisitor& v,
                              const Call& call) { m.visit_scratch(s, v, call); };
template <class M>
concept HasForward = requires(
    const M& m, const typename M::template Parameters<PackedStorage<typename M::Scalar>>& p,
    Streams streams, Index N, MatrixView<const typename M::Scalar> x,
    MatrixView<typename M::Scalar> y, Form form, Write write, Arena& arena) {
    { m.forward(p, streams, N, x, y, form, write, arena) } noexcept;
};
// A tape, and both ways along it.
template <class M>
concept HasBackward = requires(
    const M& m, const typename M::template Parameters<PackedStorage<typename M::Scalar>>& p,
    const typename M::template Parameters<TransposedStorage<typename M::Scalar>>& t,
    typename M::template Parameters<FlatStorage<typename M::Scalar>>& gradients,
    typename M::Tape& tape, typename M::BackwardScratch& scratch, detail::AnyVisitor& v,
    const Call& call, Streams streams, Index N, MatrixView<const typename M::Scalar> x,
    MatrixView<typename M::Scalar> y, Form form, Write write, Arena& arena) {
    m.visit_tape(tape, v, call);
    m.visit_backward_scratch(scratch, v, call);
    { m.forward(p, streams, N, x, y, form, write, arena, tape) } noexcept;
    { m.backward(p, t, tape, streams, N, x, x, y, gradients, streams, arena) } noexcept;
};
template <class M>
concept HasRollback =
    requires(const M& m, const typename M::State& state, typename M::History& history,
             detail::AnyVisitor& v, Index N, Arena& arena) {
        m.visit_history(history, v, N);
        { m.rollback(state, std::int64_t{}, N, N, arena) } noexcept;
    };

// A text can be cut between the tokens of such a module.
template <class M>
concept HasCut = requires(
    const M& m, const typename M::template Parameters<PackedStorage<typename M::Scalar>>& p,
    Streams streams, Index N, MatrixView<const typename M::Scalar> x, typename M::Scalar* map,
    Arena& arena) {
    { m.halo() } -> std::convertible_to<Index>;
    { m.advance(p, streams, N, x, map, arena) } noexcept;
};
// Part of its state advances by an affine map.
template <class M>
concept HasMap = HasCut<M> && requires(const M& m, const typename M::State& state,
                                       const typename M::Scalar* map, typename M::Scalar* memory) {
    { m.map_size() } -> std::convertible_to<Index>;
    { m.mapped(state) } noexcept;
    { m.identity(memory) } noexcept;
    { m.carry(map, map, memory) } noexcept;
};

// Of a norm, which has no state and is called in place of a module by Residual.
template <class N>
concept NormModule =
    HasScalar<N> && HasWidth<N> && HasDescription<N> && HasParameters<N> &&
    requires(const N& norm,
             const typename N::template Parameters<PackedStorage<typename N::Scalar>>& p,
             MatrixView<const typename N::Scalar> x, MatrixView<typename N::Scalar> y) {
        { norm.forward(p, x, y) } noexcept;
    };

template <class M>
concept Module = HasScalar<M> && HasWidth<M> && HasDescription<M> && HasParameters<M> &&
                 HasState<M> && HasScratch<M> && HasForward<M>;

// Instantiating it for a class that is no module says what is missing.
template <class M>
struct ExpectModule {
    static_assert(HasScalar<M>,
                  "hydralm: module: must name its scalar; write `using Scalar = float;`");
    static_assert(HasWidth<M>,
                  "hydralm: module: must say its width; write `constexpr Index d_model() const`");
    static_assert(HasDescription<M>,
                  "hydralm: module: must say what files compare; write `template <class V> "
                  "constexpr void describe(V& v) const` that calls v.module(name) and v.option");
    static_assert(HasParameters<M>,
                  "hydralm: module: must declare its tensors; write `template <class Storage> "
                  "struct Parameters` and `template <class P, class V> constexpr void visit(P&, "
                  "V&) const`");
    static_assert(HasState<M>,
                  "hydralm: module: must declare its state; write `struct State` and `template "
                  "<class S, class V> constexpr void visit_state(S&, V&) const`");
    static_assert(HasScratch<M>,
                  "hydralm: module: must declare its scratch memory; write `struct Scratch` and "
                  "`template <class V> constexpr void visit_scratch(Scratch&, V&, const Call&) "
                  "const`");
    static_assert(HasForward<M>,
                  "hydralm: module: must have a forward that is const and noexcept; write it as "
                  "layers/module.hpp says");
    static_assert(
        !requires { typename M::Tape; } || HasBackward<M>,
        "hydralm: module: must have a way back where it has a tape; write visit_tape, "
        "BackwardScratch, visit_backward_scratch, forward with a tape and backward, "
        "const and noexcept");
    static_assert(!keeps_history<M> || HasRollback<M>,
                  "hydralm: module: must have a rollback where it has a history; write "
                  "visit_history and rollback, const and noexcept");
    static_assert(
        !requires(const M& m) { m.halo(); } || HasCut<M>,
        "hydralm: module: must advance where it has a halo; write advance, const and "
        "noexcept, as layers/module.hpp says");
    static_assert(
        !requires(const M& m) { m.map_size(); } || HasMap<M>,
        "hydralm: module: must carry its state where it has a map; write halo, advance, "
        "mapped, identity and carry, const and noexcept");
    static constexpr bool value = Module<M>;
};

}  // namespace HYDRALM_NAMESPACE
