// Block and Stack: a mixer and an MLP on the residual stream, and the schedule of blocks as one
// type.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "hydralm/layers/residual.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

namespace detail {

// i in decimal, i < 1000, as a string with static storage.
struct Decimal {
    std::array<char, 4> text{};
    std::size_t length = 0;
    constexpr operator std::string_view() const noexcept { return {text.data(), length}; }
};
constexpr Decimal decimal(std::size_t i) noexcept {
    Decimal d;
    std::size_t unit = i >= 100 ? 100 : i >= 10 ? 10 : 1;
    for (; unit > 0; unit /= 10) d.text[d.length++] = static_cast<char>('0' + i / unit % 10);
    return d;
}

}  // namespace detail

// x += mixer(rms(x; norm1)); x += mlp(rms(x; norm2)), in place on x [B·N, d].
template <class Mixer, class Mlp, class Norm>
class Block {
public:
    using Scalar = typename Mixer::Scalar;
    using MixerType = Mixer;
    using State = typename Mixer::State;
    using MixerPart = Residual<PreNorm<Mixer, Norm>>;
    using MlpPart = Residual<PreNorm<Mlp, Norm>>;

    constexpr Block() = default;
    constexpr Block(Mixer mixer, Mlp mlp, Norm norm) : mixer_(mixer, norm), mlp_(mlp, norm) {}
    constexpr const Mixer& mixer() const noexcept { return mixer_.inner(); }
    constexpr const MixerPart& mixer_part() const noexcept { return mixer_; }
    constexpr const MlpPart& mlp_part() const noexcept { return mlp_; }

    template <class Storage>
    struct Parameters {
        typename MixerPart::template Parameters<Storage> mixer{};
        typename MlpPart::template Parameters<Storage> mlp{};
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        mixer_.visit(p.mixer, v, "norm1", "mixer");
        mlp_.visit(p.mlp, v, "norm2", "mlp");
    }
    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        mixer_.visit_state(s, v);
    }

    constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        return std::max(mixer_.workspace_bytes(B, N, form), mlp_.workspace_bytes(B, N, form));
    }

    void forward(const Parameters<PackedStorage<Scalar>>& p, Streams streams, Index N,
                 MatrixView<Scalar> x, Form form, Arena& arena) const noexcept {
        mixer_.forward(p.mixer, streams, N, x, form, arena);
        mlp_.forward(p.mlp, streams, N, x, form, arena);
    }

private:
    MixerPart mixer_;  // with an address of its own: without one g++ 14 takes no such constant
    MlpPart mlp_;
};

// Blocks one after the other. Blocks of the same kind are one type, so their code is instantiated
// once.
template <class... Blocks>
class Stack {
public:
    using Scalar = typename std::tuple_element_t<0, std::tuple<Blocks...>>::Scalar;
    static constexpr Index size = sizeof...(Blocks);

    constexpr Stack() = default;
    constexpr explicit Stack(Blocks... blocks) : blocks_(blocks...) {}

    template <class Storage>
    using Parameters = std::tuple<typename Blocks::template Parameters<Storage>...>;

    // f(block, i) for every block, first to last; i is a std::integral_constant.
    template <class F>
    constexpr void for_each(const F& f) const {
        for_each(f, std::index_sequence_for<Blocks...>{});
    }
    // The same, last to first.
    template <class F>
    constexpr void for_each_reversed(const F& f) const {
        [&]<std::size_t... i>(std::index_sequence<i...>) {
            for_each(f, std::index_sequence<sizeof...(Blocks) - 1 - i...>{});
        }(std::index_sequence_for<Blocks...>{});
    }

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        for_each([&](const auto& block, auto i) {
            v.nested(detail::decimal(i), [&] { block.visit(std::get<i>(p), v); });
        });
    }

    // Where the state of block i begins in a stream's memory, and last, how much there is.
    constexpr std::array<StateExtent, sizeof...(Blocks) + 1> state_offsets() const noexcept {
        std::array<StateExtent, sizeof...(Blocks) + 1> offsets{};
        for_each(
            [&](const auto& block, auto i) { offsets[i + 1] = offsets[i] + state_extent(block); });
        return offsets;
    }
    constexpr StateExtent all_states() const noexcept { return state_offsets().back(); }

    // The memory of a stream before its first token. Allocates. Throws Error for a policy that
    // cannot be.
    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        std::vector<PageBank> banks;
        for_each([&](const auto& block, auto) { add_banks(block, banks, policy); });
        return {all_states().bytes, std::move(banks)};
    }

    constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        Index bytes = 0;
        for_each([&](const auto& block, auto) {
            bytes = std::max(bytes, block.workspace_bytes(B, N, form));
        });
        return bytes;
    }

    // The history of a stream that calls of N tokens in the recurrent form leave, and back from it
    // to the state after the first kept of the N: bit for bit, without computing these again.
    // stream: as it was given to forward, its history unread. N: at most every window.
    constexpr Index history_bytes(Index N) const noexcept {
        Index bytes = 0;
        for_each([&](const auto& block, auto) { bytes += block.mixer().history_bytes(N); });
        return bytes;
    }
    void rollback(const Stream& stream, Index N, Index kept, Arena& history) const noexcept {
        const auto offsets = state_offsets();
        for_each([&](const auto& block, auto i) {
            block.mixer().rollback(bind_state(block.mixer(), Streams(&stream, 1).at(offsets[i]), 0),
                                   stream.position, N, kept, history);
        });
    }

    void forward(const Parameters<PackedStorage<Scalar>>& p, Streams streams, Index N,
                 MatrixView<Scalar> x, Form form, Arena& arena) const noexcept {
        const auto offsets = state_offsets();
        for_each([&](const auto& block, auto i) {
            block.forward(std::get<i>(p), streams.at(offsets[i]), N, x, form, arena);
        });
    }

private:
    template <class F, std::size_t... i>
    constexpr void for_each(const F& f, std::index_sequence<i...>) const {
        (f(std::get<i>(blocks_), std::integral_constant<std::size_t, i>{}), ...);
    }

    [[no_unique_address]] std::tuple<Blocks...> blocks_;
};

}  // namespace HYDRALM_NAMESPACE
