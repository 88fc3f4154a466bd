// Block: a mixer and an MLP on the residual stream, as one type.
#pragma once

#include <type_traits>

#include "hydralm/layers/residual.hpp"

namespace HYDRALM_NAMESPACE {

// x += mixer(norm1(x)); x += mlp(norm2(x)), in place on x [B·N, d]; with On = PostNormResidual, x
// += norm1(mixer(x)); x += norm2(mlp(x)).
template <class Mixer, class Mlp, class Norm, template <class, class> class On = Residual>
class Block {
public:
    using Scalar = typename Mixer::Scalar;
    using MixerType = Mixer;
    using NormType = Norm;
    using MixerPart = On<Norm, Mixer>;
    using MlpPart = On<Norm, Mlp>;
    using State = typename Mixer::State;
    static_assert(ExpectModule<Mixer>::value && ExpectModule<Mlp>::value);
    static_assert(std::is_same_v<Scalar, typename Mlp::Scalar> &&
                      std::is_same_v<Scalar, typename Norm::Scalar>,
                  "hydralm: block: mixer, MLP and norm must compute in one scalar; give all float "
                  "or all double");
    static_assert(std::is_empty_v<typename Mlp::State>,
                  "hydralm: mlp: must carry no state from token to token; what does is a mixer");

    constexpr Block() = default;
    constexpr Block(Mixer mixer, Mlp mlp, Norm norm) : mixer_(norm, mixer), mlp_(norm, mlp) {}
    constexpr const Mixer& mixer() const noexcept { return mixer_.inner(); }
    constexpr const MixerPart& mixer_part() const noexcept { return mixer_; }
    constexpr const MlpPart& mlp_part() const noexcept { return mlp_; }
    constexpr Index d_model() const noexcept { return mixer_.d_model(); }
    // Whether norm, mixer and MLP are of one width.
    constexpr bool fits() const noexcept {
        return mixer().d_model() == d_model() && mlp_.inner().d_model() == d_model();
    }

    template <class Storage>
    struct Parameters {
        typename MixerPart::template Parameters<Storage> mixer{};
        typename MlpPart::template Parameters<MlpStorage<Storage>> mlp{};
    };
    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        mixer_.visit(p.mixer, v, "norm1", "mixer");
        v.within_mlp([&] { mlp_.visit(p.mlp, v, "norm2", "mlp"); });
    }
    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        mixer_.visit_state(s, v);
    }

    struct Scratch {};
    template <class V>
    constexpr void visit_scratch(Scratch&, V& v, const Call& call) const {
        v.within(scratch_bytes(mixer_, call));
        v.within(scratch_bytes(mlp_, call));
    }
    struct Tape {
        typename MixerPart::Tape mixer;
        typename MlpPart::Tape mlp;
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        mixer_.visit_tape(t.mixer, v, call);
        mlp_.visit_tape(t.mlp, v, call);
    }
    struct BackwardScratch {};
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch&, V& v, const Call& call) const {
        v.within(backward_scratch_bytes(mixer_, call.streams, call.tokens));
        v.within(backward_scratch_bytes(mlp_, call.streams, call.tokens));
    }

    // As layers/module.hpp says, in place.
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<Scalar> x, Form form,
                 Arena& arena, const R& tape = {}) const noexcept {
        mixer_.forward(p.mixer, streams, N, x, form, arena,
                       part_of(tape, [](const auto& t) -> auto& { return t.mixer; }));
        mlp_.forward(p.mlp, streams, N, x, form, arena,
                     part_of(tape, [](const auto& t) -> auto& { return t.mlp; }));
    }
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<Scalar> dx, G& gradients, Streams dstates,
                  Arena& arena) const noexcept {
        mlp_.backward(p.mlp, transposed.mlp, tape.mlp, streams, N, dx, gradients.mlp, dstates,
                      arena);
        mixer_.backward(p.mixer, transposed.mixer, tape.mixer, streams, N, dx, gradients.mixer,
                        dstates, arena);
    }

    // A text that is cut: as layers/module.hpp says of the mixer, for stream 0 of streams.
    static constexpr bool cuts() noexcept { return HasCut<Mixer>; }
    constexpr Index halo() const noexcept {
        if constexpr (HasCut<Mixer>) return mixer().halo();
        else return 0;
    }
    template <class P>
    void advance(const P& p, Streams streams, Index N, MatrixView<const Scalar> x, Scalar* map,
                 Arena& arena) const noexcept {
        if constexpr (HasCut<Mixer>) mixer_.advance(p.mixer, streams, N, x, map, arena);
    }
    constexpr Index map_size() const noexcept {
        if constexpr (HasMap<Mixer>) return mixer().map_size();
        else return 0;
    }
    Scalar* mapped(Streams streams) const noexcept {
        if constexpr (HasMap<Mixer>) return mixer().mapped(bind_state(mixer(), streams, 0));
        else return nullptr;
    }
    void identity(Scalar* map) const noexcept {
        if constexpr (HasMap<Mixer>) mixer().identity(map);
    }
    void carry(const Scalar* map, const Scalar* before, Scalar* state) const noexcept {
        if constexpr (HasMap<Mixer>) mixer().carry(map, before, state);
    }
    void receive(Streams streams, Index first, Index end, Arena& arena) const noexcept {
        if constexpr (requires(State state) { mixer().receive(state, first, end, arena); })
            mixer().receive(bind_state(mixer(), streams, 0), first, end, arena);
    }
    constexpr StateExtent state_extent() const noexcept { return hydralm::state_extent(mixer()); }

private:
    MixerPart mixer_;  // with an address of its own: without one g++ 14 takes no such constant
    MlpPart mlp_;
};

}  // namespace HYDRALM_NAMESPACE
