// What a stream of tokens carries on: how a module declares its state, and how a batch of streams
// is handed to it.
//
// A module has `struct State` (pointers into one stream's memory) and
//     template <class S, class V> constexpr void visit_state(S& state, V& visitor) const
// which declares every array through visitor.array(pointer, count), or visitor.array(pointer, rows,
// cols) where it may rest in int16 between calls (StateFormat), and what grows with the stream
// through visitor.growing(pages, layout). All state is zero before the first token. Copying bytes
// and banks copies the stream.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/core/types.hpp"
#include "hydralm/state/page_bank.hpp"
#include "hydralm/state/resting_layout.hpp"

namespace HYDRALM_NAMESPACE {

// How a mixer computes many tokens: in parallel over them, or token by token exactly as step does.
// To rounding the same; the recurrent form has the bits of step (drafts are verified in it), but
// where a state that rests is rounded between steps.
enum class Form : std::uint8_t { parallel, recurrent };

// Whether a module replaces y or adds to it (the residual stream).
enum class Write : std::uint8_t { assign, add };

// A place in the memory of a stream, and how much a module has of it.
struct StateExtent {
    Index bytes = 0;
    Index banks = 0;
    constexpr StateExtent operator+(const StateExtent& other) const noexcept {
        return {bytes + other.bytes, banks + other.banks};
    }
};

namespace detail {

struct StateSize {
    StateExtent extent;
    template <class T>
    constexpr void array(T*&, Index count) noexcept {
        extent.bytes += arena_bytes<T>(count);
    }
    template <class T>
    constexpr void array(T*& pointer, Index rows, Index cols) noexcept {
        array(pointer, rows * cols);
    }
    constexpr void growing(const PageBank*&, const PageLayout&) noexcept { ++extent.banks; }
};

struct StateBinder {
    std::byte* next;
    PageBank* next_bank;
    template <class T>
    void array(T*& pointer, Index count) noexcept {
        pointer = reinterpret_cast<T*>(next);
        next += arena_bytes<T>(count);
    }
    template <class T>
    void array(T*& pointer, Index rows, Index cols) noexcept {
        array(pointer, rows * cols);
    }
    void growing(const PageBank*& pages, const PageLayout&) noexcept { pages = next_bank++; }
};

}  // namespace detail

// What the memory of a stream is made of, gathered module by module.
struct StateParts {
    Index bytes = 0;
    std::vector<RestingArray> resting{};  // among them, in order
    std::vector<PageBank> banks{};        // empty
};

namespace detail {

struct StateGatherer {
    StateParts& parts;
    const BankPolicy& policy;
    template <class T>
    void array(T*&, Index count) noexcept {
        parts.bytes += arena_bytes<T>(count);
    }
    template <Real T>
    void array(T*& pointer, Index rows, Index cols) {
        parts.resting.push_back({parts.bytes, rows, cols, sizeof(T) == sizeof(double)});
        array(pointer, rows * cols);
    }
    void growing(const PageBank*&, const PageLayout& layout) {
        parts.banks.emplace_back(layout, policy);
    }
};

}  // namespace detail

template <class Module>
constexpr StateExtent state_extent(const Module& module) noexcept {
    typename Module::State state{};
    detail::StateSize size;
    module.visit_state(state, size);
    return size.extent;
}

// Bytes of a module's state, what its banks hold aside.
template <class Module>
constexpr Index state_bytes(const Module& module) noexcept {
    return state_extent(module).bytes;
}

// Adds the module's state behind what is there. Throws Error for a policy that cannot be.
template <class Module>
void add_state(const Module& module, StateParts& parts, const BankPolicy& policy = {}) {
    typename Module::State state{};
    detail::StateGatherer gatherer{parts, policy};
    module.visit_state(state, gatherer);
}

// One stream as a module sees it: where its bytes of the state begin, how many tokens came before,
// where its banks begin, with memory for the tokens to come, and, if the tokens of the call may be
// taken back, where mixers keep what that needs (Stack::rollback).
struct Stream {
    std::byte* bytes = nullptr;  // aligned to hydralm::alignment
    std::int64_t position = 0;
    PageBank* banks = nullptr;
    Arena* history = nullptr;  // of a single stream, in the recurrent form
};

// B streams. at(offset) are the same streams seen by a module whose state begins offset later. With
// no Stream behind them they are rows without a past, of modules without state: position 0.
class Streams {
public:
    constexpr Streams(const Stream* first, Index count, StateExtent offset = {}) noexcept
        : first_(first), count_(count), offset_(offset) {}

    constexpr Index count() const noexcept { return count_; }
    constexpr std::int64_t position(Index b) const noexcept {
        return first_ == nullptr ? 0 : first_[b].position;
    }
    constexpr std::byte* bytes(Index b) const noexcept { return first_[b].bytes + offset_.bytes; }
    constexpr PageBank* banks(Index b) const noexcept { return first_[b].banks + offset_.banks; }
    constexpr Arena* history() const noexcept {
        return first_ != nullptr && count_ == 1 ? first_->history : nullptr;
    }
    constexpr Streams at(const StateExtent& offset) const noexcept {
        return {first_, count_, offset_ + offset};
    }

private:
    const Stream* first_;
    Index count_;
    StateExtent offset_;
};

// The state of stream b, as the module whose state begins where streams does sees it.
template <class Module>
typename Module::State bind_state(const Module& module, Streams streams, Index b) noexcept {
    typename Module::State state{};
    detail::StateBinder binder{streams.bytes(b), streams.banks(b)};
    module.visit_state(state, binder);
    return state;
}

}  // namespace HYDRALM_NAMESPACE
