// Stack: blocks one after the other, as one type.
//
//   Stack<Repeat<3, Linear, Linear, Block<my::Mixer<float>, Mlp, Norm>>>   // nine, of two types
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <tuple>
#include <utility>

#include "hydralm/model/block.hpp"
#include "hydralm/model/layer_watch.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// In a stack: the layers N times, one after the other.
template <Index N, class... Layers>
struct Repeat {};

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

template <class... Blocks>
struct BlockList {
    template <class... More>
    BlockList<Blocks..., More...> operator+(BlockList<More...>) const;
};
template <class Block>
struct Expanded {
    using List = BlockList<Block>;
};
template <Index N, class... Layers>
struct Expanded<Repeat<N, Layers...>> {
    static_assert(N >= 1, "hydralm: repeat: must be at least once; leave the layers out instead");
    template <std::size_t>
    using Once = decltype((BlockList<>() + ... + typename Expanded<Layers>::List()));
    template <std::size_t... i>
    static auto times(std::index_sequence<i...>) -> decltype((BlockList<>() + ... + Once<i>()));
    using List = decltype(times(std::make_index_sequence<static_cast<std::size_t>(N)>{}));
};

// The name of the first layer that does not fit, in the compiler's message.
template <Index layer>
struct LayerFits {
    static_assert(layer < 0,
                  "hydralm: stack: norm, mixer and MLP of every layer must have the width of the "
                  "layers before it; make d_model of the layer named in LayerFits<layer> the same");
    static constexpr bool value = layer < 0;
};

}  // namespace detail

// What Stack<Layers...> is. Blocks of the same kind are one type, so their code is instantiated
// once; they are named blocks.0, blocks.1, … in files.
template <class... Blocks>
class StackOf {
    static_assert(sizeof...(Blocks) >= 1 && sizeof...(Blocks) < 1000,
                  "hydralm: stack: must have 1 to 999 layers; give at least one Block");

public:
    using Scalar = typename std::tuple_element_t<0, std::tuple<Blocks...>>::Scalar;
    static constexpr Index size = sizeof...(Blocks);
    // Of the last layer.
    using NormType =
        typename std::tuple_element_t<sizeof...(Blocks) - 1, std::tuple<Blocks...>>::NormType;

    constexpr StackOf() = default;
    constexpr explicit StackOf(Blocks... blocks) : blocks_(blocks...) {}
    constexpr Index d_model() const noexcept { return std::get<0>(blocks_).d_model(); }

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
    // The first layer whose parts are not of the width of the first one's; −1 when all are.
    constexpr Index first_misfit() const noexcept {
        Index layer = -1;
        for_each([&](const auto& block, auto i) {
            if (layer < 0 && !(block.fits() && block.d_model() == d_model()))
                layer = static_cast<Index>(std::size_t{i});
        });
        return layer;
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
        StateParts parts;
        for_each([&](const auto& block, auto) { add_state(block, parts, policy); });
        return {std::move(parts), policy.state};
    }

    struct Scratch {};
    template <class V>
    constexpr void visit_scratch(Scratch&, V& v, const Call& call) const {
        for_each([&](const auto& block, auto) { v.within(scratch_bytes(block, call)); });
    }
    using Tape = std::tuple<typename Blocks::Tape...>;
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        for_each([&](const auto& block, auto i) { block.visit_tape(std::get<i>(t), v, call); });
    }
    struct BackwardScratch {};
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch&, V& v, const Call& call) const {
        for_each([&](const auto& block, auto) {
            v.within(backward_scratch_bytes(block, call.streams, call.tokens));
        });
    }

    // As layers/module.hpp says, in place on x [B·N, d]; watch, where there is one, is told.
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<Scalar> x, Form form,
                 Arena& arena, const R& tape = {}, LayerWatch* watch = nullptr) const noexcept {
        const auto offsets = state_offsets();
        for_each([&](const auto& block, auto i) {
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            block.forward(std::get<i>(p), streams.at(offsets[i]), N, x, form, arena,
                          part_of(tape, [&](const auto& t) -> auto& { return std::get<i>(t); }));
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        });
    }
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<Scalar> dx, G& gradients, Streams dstates, Arena& arena,
                  LayerWatch* watch = nullptr) const noexcept {
        const auto offsets = state_offsets();
        for_each_reversed([&](const auto& block, auto i) {
            if (watch != nullptr) watch->before(static_cast<Index>(i));
            block.backward(std::get<i>(p), std::get<i>(transposed), std::get<i>(tape),
                           streams.at(offsets[i]), N, dx, std::get<i>(gradients),
                           dstates.at(offsets[i]), arena);
            if (watch != nullptr) watch->after(static_cast<Index>(i));
        });
    }

    // f(block, its parameters, where its state begins) for every block, first to last.
    template <class P, class F>
    void each_layer(const P& p, const F& f) const {
        const auto offsets = state_offsets();
        for_each([&](const auto& block, auto i) { f(block, std::get<i>(p), offsets[i]); });
    }

    // Whether every layer that carries state can take its last tokens back.
    static constexpr bool rolls_back = (can_roll_back<typename Blocks::MixerType> && ...);

    // The most tokens that one call may take back: as many as every window has.
    constexpr Index most_history() const noexcept {
        Index most = std::numeric_limits<Index>::max();
        for_each([&](const auto& block, auto) {
            if constexpr (requires { block.mixer().most_history(); })
                most = std::min(most, block.mixer().most_history());
        });
        return most;
    }
    // The history of a stream that calls of N tokens in the recurrent form leave, and back from it
    // to the state after the first kept of the N: bit for bit, without computing these again.
    // stream: as it was given to forward, its history unread. N: at most most_history().
    constexpr Index history_bytes(Index N) const noexcept {
        Index bytes = 0;
        for_each([&](const auto& block, auto) {
            if constexpr (keeps_history<std::decay_t<decltype(block.mixer())>>)
                bytes += hydralm::history_bytes(block.mixer(), N);
        });
        return bytes;
    }
    void rollback(const Stream& stream, Index N, Index kept, Arena& history) const noexcept {
        static_assert(rolls_back,
                      "hydralm: rollback: must be there for every mixer with a state; write "
                      "History, visit_history and rollback as layers/module.hpp says");
        const auto offsets = state_offsets();
        for_each([&](const auto& block, auto i) {
            if constexpr (keeps_history<std::decay_t<decltype(block.mixer())>>)
                block.mixer().rollback(
                    bind_state(block.mixer(), Streams(&stream, 1).at(offsets[i]), 0),
                    stream.position, N, kept, history);
        });
    }

private:
    template <class F, std::size_t... i>
    constexpr void for_each(const F& f, std::index_sequence<i...>) const {
        (f(std::get<i>(blocks_), std::integral_constant<std::size_t, i>{}), ...);
    }

    [[no_unique_address]] std::tuple<Blocks...> blocks_;
};

namespace detail {
template <class... Blocks>
StackOf<Blocks...> stack_of(BlockList<Blocks...>);
}

// Layers one after the other: Blocks, and Repeats of them.
template <class... Layers>
using Stack = decltype(detail::stack_of(
    (detail::BlockList<>() + ... + typename detail::Expanded<Layers>::List())));

}  // namespace HYDRALM_NAMESPACE
