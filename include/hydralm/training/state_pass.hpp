// StatePass: what the streams of a text that is cut carry, from rank to rank, layer by layer.
//
// Forward, rank r needs of a layer the states that r − 1 leaves; backward, the gradient of the
// states that it left, from r + 1: the scan of the layer's recurrence, and its adjoint the other
// way. Ranks are staggered: while one computes a layer, the next computes the layer before it in
// the order of computation. L layers on R ranks are L + R − 1 steps of a layer of a run each,
// between which every rank calls Ranks::send once.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/model/layer_watch.hpp"
#include "hydralm/state/stream_state.hpp"
#include "hydralm/training/ranks.hpp"

namespace HYDRALM_NAMESPACE {

// Where the state of a layer begins, and what it has.
struct LayerState {
    StateExtent place, extent;
};

// One way through the layers. A rank sends of each layer the bytes of its state, which do not grow
// with the text, and of its banks every page that the run behind it reads. Memory for what passes
// is taken by the constructor; beside it a message takes some numbers a rank, without which the
// process ends (LayerWatch).
class StatePass final : public LayerWatch {
public:
    enum class Way : std::uint8_t { forward, backward };

    // streams: the states on the way forward, their gradients backward; they outlive it, with
    // memory for all tokens before end. begin, end: positions of the run's first token and behind
    // its last. Throws Error where more than 2^31 − 1 words pass at once.
    StatePass(Ranks& ranks, Way way, std::span<const LayerState> layers, Streams streams,
              std::int64_t begin, std::int64_t end)
        : ranks_(ranks), way_(way), layers_(layers), streams_(streams) {
        const bool up = way == Way::forward;
        before_ = up ? ranks.rank() : ranks.count() - 1 - ranks.rank();
        behind_ = ranks.count() - 1 - before_;
        if (before_ > 0) from_ = {up ? ranks.rank() - 1 : ranks.rank() + 1, up ? begin : end};
        if (behind_ > 0) to_ = {up ? ranks.rank() + 1 : ranks.rank() - 1, up ? end : begin};
        received_ = AlignedBuffer<std::byte>(round_up(most_bytes(from_), Index{sizeof(Word)}));
        sent_ = AlignedBuffer<std::byte>(round_up(most_bytes(to_), Index{sizeof(Word)}));
    }

    void before(Index i) noexcept override {
        if (i == first()) wait(before_);
        pass(i == first() ? none : last_, i);
    }
    void after(Index i) noexcept override {
        last_ = i;
        if (i != final() || behind_ == 0) return;
        pass(i, none);
        wait(behind_ - 1);
    }

private:
    using Word = std::uint64_t;
    static constexpr Index none = -1;

    // Another rank, and up to which position it shares the past.
    struct Peer {
        int rank = Ranks::nobody;
        std::int64_t position = 0;
    };

    Index first() const noexcept { return way_ == Way::forward ? 0 : std::ssize(layers_) - 1; }
    Index final() const noexcept { return way_ == Way::forward ? std::ssize(layers_) - 1 : 0; }

    // f(bytes) for all that passes of a layer.
    template <class F>
    void each_part(Index i, const Peer& peer, const F& f) const {
        const LayerState& layer = layers_[static_cast<std::size_t>(i)];
        const Streams own = streams_.at(layer.place);
        for (Index b = 0; b < own.count(); ++b) {
            f(std::span(own.bytes(b), static_cast<std::size_t>(layer.extent.bytes)));
            for (Index bank = 0; bank < layer.extent.banks; ++bank)
                own.banks(b)[bank].for_each_page(peer.position, f);
        }
    }
    template <class F>
    void for_banks(Index i, const F& f) const {
        const LayerState& layer = layers_[static_cast<std::size_t>(i)];
        const Streams own = streams_.at(layer.place);
        for (Index b = 0; b < own.count(); ++b)
            for (Index bank = 0; bank < layer.extent.banks; ++bank) f(own.banks(b)[bank]);
    }
    Index bytes(Index i, const Peer& peer) const {
        std::size_t sum = 0;
        each_part(i, peer, [&](std::span<const std::byte> part) { sum += part.size(); });
        return static_cast<Index>(sum);
    }
    Index most_bytes(const Peer& peer) const {
        Index most = 0;
        for (Index i = 0; peer.rank != Ranks::nobody && i < std::ssize(layers_); ++i)
            most = std::max(most, bytes(i, peer));
        if (ceil_div(most, Index{sizeof(Word)}) > std::numeric_limits<std::int32_t>::max())
            raise({.field = "ranks",
                   .expected = "states of a layer below 2^34 bytes, to pass at once",
                   .found = std::to_string(most),
                   .fix = "cut a shorter text, or fewer streams"});
        return most;
    }

    // The state of layer `out` goes on, that of layer `in` comes.
    void pass(Index out, Index in) noexcept {
        const auto words = [](AlignedBuffer<std::byte>& buffer, Index size) {
            return std::span(reinterpret_cast<Word*>(buffer.data()),
                             static_cast<std::size_t>(ceil_div(size, Index{sizeof(Word)})));
        };
        Index sent = 0, received = 0;
        if (out != none && to_.rank != Ranks::nobody)
            each_part(out, to_, [&](std::span<const std::byte> part) {
                std::ranges::copy(part, sent_.data() + sent);
                sent += std::ssize(part);
            });
        if (in != none && from_.rank != Ranks::nobody) received = bytes(in, from_);
        ranks_.send<Word>(words(sent_, sent), sent > 0 ? to_.rank : Ranks::nobody,
                          words(received_, received), received > 0 ? from_.rank : Ranks::nobody);
        if (received == 0) return;
        const std::byte* next = received_.data();
        each_part(in, from_, [&](std::span<std::byte> part) {
            std::copy_n(next, part.size(), part.data());
            next += part.size();
        });
        for_banks(in, [&](const PageBank& bank) { bank.derive(from_.position); });
    }
    // So many steps in which others compute.
    void wait(int steps) noexcept {
        for (int s = 0; s < steps; ++s) pass(none, none);
    }

    Ranks& ranks_;
    Way way_;
    std::span<const LayerState> layers_;
    Streams streams_;
    int before_ = 0, behind_ = 0;  // ranks, in the order of the way
    Peer from_, to_;
    Index last_ = none;  // the layer computed last
    AlignedBuffer<std::byte> received_, sent_;
};

}  // namespace HYDRALM_NAMESPACE
