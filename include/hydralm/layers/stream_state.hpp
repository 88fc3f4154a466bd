// What a stream of tokens carries on: how a module declares its state, and how a batch of streams
// is handed to it.
//
// A module has `struct State` (pointers into one stream's buffer) and
//     template <class S, class V> constexpr void visit_state(S& state, V& visitor) const
// which declares every array through visitor.array(pointer, count). All state is zero before the
// first token. Copying the buffer copies the stream.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// How a mixer computes many tokens: in parallel over them, or token by token exactly as step does.
// To rounding the same; the recurrent form has the bits of step (drafts are verified in it).
enum class Form : std::uint8_t { parallel, recurrent };

// Whether a module replaces y or adds to it (the residual stream).
enum class Write : std::uint8_t { assign, add };

namespace detail {

struct StateSize {
    Index bytes = 0;
    template <class T>
    constexpr void array(T*&, Index count) noexcept {
        bytes += arena_bytes<T>(count);
    }
};

struct StateBinder {
    std::byte* next;
    template <class T>
    void array(T*& pointer, Index count) noexcept {
        pointer = reinterpret_cast<T*>(next);
        next += arena_bytes<T>(count);
    }
};

}  // namespace detail

template <class Module>
constexpr Index state_bytes(const Module& module) noexcept {
    typename Module::State state{};
    detail::StateSize size;
    module.visit_state(state, size);
    return size.bytes;
}

template <class Module>
typename Module::State bind_state(const Module& module, std::byte* bytes) noexcept {
    typename Module::State state{};
    detail::StateBinder binder{bytes};
    module.visit_state(state, binder);
    return state;
}

// One stream as a module sees it: where its bytes of the state begin, and how many tokens came
// before.
struct Stream {
    std::byte* bytes = nullptr;  // aligned to hydralm::alignment
    std::int64_t position = 0;
};

// B streams. at(offset) are the same streams seen by a module whose state begins offset bytes
// later.
class Streams {
public:
    constexpr Streams(const Stream* first, Index count, Index offset = 0) noexcept
        : first_(first), count_(count), offset_(offset) {}

    constexpr Index count() const noexcept { return count_; }
    constexpr std::int64_t position(Index b) const noexcept { return first_[b].position; }
    constexpr std::byte* bytes(Index b) const noexcept { return first_[b].bytes + offset_; }
    constexpr Streams at(Index offset) const noexcept { return {first_, count_, offset_ + offset}; }

private:
    const Stream* first_;
    Index count_;
    Index offset_;
};

}  // namespace HYDRALM_NAMESPACE
