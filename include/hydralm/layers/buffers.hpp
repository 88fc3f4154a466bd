// Buffers of a call: scratch memory and tapes, declared once; sizes and views both follow.
//
// A module has a struct of views for each, and a function that names every one of them:
//     matrix(view, rows, cols)      a matrix of the arena, row-major, without gaps
//     array(pointer, count)         count elements
//     array(pointer, rows, cols)    rows · cols elements
//     tasks(scratch, count, bytes)  bytes for each of count tasks that run beside each other
//     within(bytes)                 what a kernel or an inner module takes and gives back while
//                                   these are held; of several the largest counts
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/state/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

// What one call of forward or backward is given.
struct Call {
    Index streams = 1;  // B
    Index tokens = 1;   // N of each
    Form form = Form::parallel;
    bool recorded = false;  // forward: with a tape
    constexpr Index rows() const noexcept { return streams * tokens; }
};

// In the place of a tape: nothing is recorded.
struct NoTape {};
template <class Tape>
inline constexpr bool records = !std::same_as<Tape, NoTape>;

// Part f(tape) of a tape, or none where there is none of the whole.
template <class Tape, class F>
constexpr decltype(auto) part_of(const Tape& tape, const F& f) noexcept {
    if constexpr (records<Tape>) return f(tape);
    else return NoTape{};
}

// Memory of tasks that run beside each other.
class TaskScratch {
public:
    constexpr TaskScratch() = default;
    constexpr TaskScratch(std::byte* first, Index each) noexcept : first_(first), each_(each) {}
    // An arena over the memory of task i alone.
    Arena of(Index i) const noexcept {
        return Arena({first_ + i * each_, static_cast<std::size_t>(each_)});
    }

private:
    std::byte* first_ = nullptr;
    Index each_ = 0;
};

template <class T>
MatrixView<T> take_matrix(Arena& arena, Index rows, Index cols) noexcept {
    return {arena.take<T>(rows * cols), rows, cols};
}

namespace detail {

constexpr Index task_bytes(Index bytes) noexcept {
    return round_up(bytes, static_cast<Index>(alignment));
}

class BufferSize {
public:
    template <class T>
    constexpr void matrix(MatrixView<T>&, Index rows, Index cols) noexcept {
        own_ += arena_bytes<T>(rows * cols);
    }
    template <class T>
    constexpr void array(T*&, Index count) noexcept {
        own_ += arena_bytes<T>(count);
    }
    template <class T>
    constexpr void array(T*& pointer, Index rows, Index cols) noexcept {
        array(pointer, rows * cols);
    }
    constexpr void tasks(TaskScratch&, Index count, Index bytes) noexcept {
        own_ += count * task_bytes(bytes);
    }
    constexpr void within(Index bytes) noexcept { within_ = std::max(within_, bytes); }
    constexpr Index bytes() const noexcept { return own_ + within_; }

private:
    Index own_ = 0, within_ = 0;
};

class BufferBinder {
public:
    explicit BufferBinder(Arena& arena) noexcept : arena_(arena) {}
    template <class T>
    void matrix(MatrixView<T>& view, Index rows, Index cols) noexcept {
        view = take_matrix<T>(arena_, rows, cols);
    }
    template <class T>
    void array(T*& pointer, Index count) noexcept {
        pointer = arena_.take<T>(count);
    }
    template <class T>
    void array(T*& pointer, Index rows, Index cols) noexcept {
        array(pointer, rows * cols);
    }
    void tasks(TaskScratch& scratch, Index count, Index bytes) noexcept {
        scratch = {arena_.take<std::byte>(count * task_bytes(bytes)), task_bytes(bytes)};
    }
    static constexpr void within(Index) noexcept {}

private:
    Arena& arena_;
};

}  // namespace detail

// Bytes of the Buffers that declare(buffers, visitor) names, and the same taken from an arena.
template <class Buffers, class F>
constexpr Index buffer_bytes(const F& declare) noexcept {
    Buffers buffers{};
    detail::BufferSize size;
    declare(buffers, size);
    return size.bytes();
}
template <class Buffers, class F>
Buffers take_buffers(Arena& arena, const F& declare) noexcept {
    Buffers buffers{};
    detail::BufferBinder bind(arena);
    declare(buffers, bind);
    return buffers;
}

// The tape of a module, or none where it has none: such a module cannot be trained.
namespace detail {
template <class Module>
struct TapeOf {
    using Type = NoTape;
};
template <class Module>
    requires requires { typename Module::Tape; }
struct TapeOf<Module> {
    using Type = typename Module::Tape;
};
}  // namespace detail
template <class Module>
using TapeOf = typename detail::TapeOf<Module>::Type;
template <class Module>
inline constexpr bool trainable = records<TapeOf<Module>>;

// Scratch of a module's forward: its bytes, and its own buffers from an arena that has so many.
template <class Module>
constexpr Index scratch_bytes(const Module& module, const Call& call) noexcept {
    return buffer_bytes<typename Module::Scratch>(
        [&](auto& scratch, auto& v) { module.visit_scratch(scratch, v, call); });
}
template <class Module>
typename Module::Scratch take_scratch(const Module& module, Arena& arena,
                                      const Call& call) noexcept {
    return take_buffers<typename Module::Scratch>(
        arena, [&](auto& scratch, auto& v) { module.visit_scratch(scratch, v, call); });
}

// What forward leaves for backward.
template <class Module>
constexpr Index tape_bytes(const Module& module, Index streams, Index tokens) noexcept {
    const Call call{.streams = streams, .tokens = tokens, .recorded = true};
    return buffer_bytes<typename Module::Tape>(
        [&](auto& tape, auto& v) { module.visit_tape(tape, v, call); });
}
template <class Module>
typename Module::Tape take_tape(const Module& module, Arena& arena, Index streams,
                                Index tokens) noexcept {
    const Call call{.streams = streams, .tokens = tokens, .recorded = true};
    return take_buffers<typename Module::Tape>(
        arena, [&](auto& tape, auto& v) { module.visit_tape(tape, v, call); });
}

// Scratch of a module's backward.
template <class Module>
constexpr Index backward_scratch_bytes(const Module& module, Index streams, Index tokens) noexcept {
    const Call call{.streams = streams, .tokens = tokens};
    return buffer_bytes<typename Module::BackwardScratch>(
        [&](auto& scratch, auto& v) { module.visit_backward_scratch(scratch, v, call); });
}
template <class Module>
typename Module::BackwardScratch take_backward_scratch(const Module& module, Arena& arena,
                                                       Index streams, Index tokens) noexcept {
    const Call call{.streams = streams, .tokens = tokens};
    return take_buffers<typename Module::BackwardScratch>(
        arena, [&](auto& scratch, auto& v) { module.visit_backward_scratch(scratch, v, call); });
}

// Scratch of recording and of backward, whichever is more.
template <class Module>
constexpr Index training_scratch_bytes(const Module& module, Index streams, Index tokens) noexcept {
    return std::max(scratch_bytes(module, {.streams = streams, .tokens = tokens, .recorded = true}),
                    backward_scratch_bytes(module, streams, tokens));
}

// Whether a mixer shows its state in the layout of files.
template <class Module>
concept exports_state = requires(const Module& module, const typename Module::State& state) {
    module.export_state(state, std::int64_t{}, [](const char*, auto, const auto&) {});
};

// Whether a mixer's last tokens can be taken back: it leaves a history, or has no state to restore.
template <class Module>
concept keeps_history = requires { typename Module::History; };
template <class Module>
concept can_roll_back = keeps_history<Module> || std::is_empty_v<typename Module::State>;

// What forward leaves in a stream's history, from which rollback takes the last tokens back.
template <class Module>
constexpr Index history_bytes(const Module& module, Index tokens) noexcept {
    return buffer_bytes<typename Module::History>(
        [&](auto& history, auto& v) { module.visit_history(history, v, tokens); });
}
template <class Module>
typename Module::History take_history(const Module& module, Arena& arena, Index tokens) noexcept {
    return take_buffers<typename Module::History>(
        arena, [&](auto& history, auto& v) { module.visit_history(history, v, tokens); });
}

}  // namespace HYDRALM_NAMESPACE
