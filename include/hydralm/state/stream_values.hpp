// StreamValues: the state of one stream as a value, with the scratch memory its computations use.
#pragma once

#include <span>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// The most tokens to take at once that a state is made for: a power of two in [8, 256]. Every
// kernel's blocks divide it, so that bits do not depend on it.
constexpr Index stream_tile(Index wanted) noexcept {
    Index tile = 8;
    while (tile < 256 && 2 * tile <= wanted) tile *= 2;
    return tile;
}

// Owner: the type whose streams these are; states of different owners do not mix. Copying copies
// what the stream carries on; scratch memory is made anew (copy construction allocates, copy
// assignment between states of one owner keeps scratch memory and tile).
template <Real T, class Owner>
class StreamValues : public StreamMemory {
public:
    StreamValues(StreamMemory memory, Index workspace_bytes, Index tile)
        : StreamMemory(std::move(memory)), workspace_(workspace_bytes), tile_(tile) {}
    StreamValues(const StreamValues& other)
        : StreamMemory(other), workspace_(other.workspace_.size()), tile_(other.tile_) {}
    StreamValues& operator=(const StreamValues& other) {
        if (bytes().size() != other.bytes().size()) return *this = StreamValues(other);
        StreamMemory::operator=(other);
        return *this;
    }
    StreamValues(StreamValues&&) noexcept = default;
    StreamValues& operator=(StreamValues&&) noexcept = default;
    ~StreamValues() = default;

    // The last elements of the scratch memory hold the logits; the rest is for the stack.
    template <class U>
    MatrixView<U> outputs(Index size) noexcept {
        return MatrixView<U>(
            reinterpret_cast<U*>(workspace_.data() + workspace_.size() - arena_bytes<U>(size)), 1,
            size);
    }
    std::span<std::byte> workspace() noexcept { return workspace_.span(); }

    Index tile() const noexcept { return tile_; }

private:
    AlignedBuffer<std::byte> workspace_;
    Index tile_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
