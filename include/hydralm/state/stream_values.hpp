// StreamValues: the state of one stream as a value, with the scratch memory its computations use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// The most tokens to take at once that a state is made for: a power of two in [8, 256]. Bits do not
// depend on it, but where a mixer was given a chunk that does not divide it, or where a memory that
// rests is rounded behind each tile.
constexpr Index stream_tile(Index wanted) noexcept {
    Index tile = 8;
    while (tile < 256 && 2 * tile <= wanted) tile *= 2;
    return tile;
}

// Owner: the type whose streams these are; states of different owners do not mix. Copying copies
// what the stream carries on; scratch memory is made anew (copy construction allocates, copy
// assignment between states of one owner keeps scratch memory and tile).
//
// shape: a number of the owner's shape, for owners of one type and many shapes.
template <Real T, class Owner>
class StreamValues : public StreamMemory {
public:
    StreamValues(StreamMemory memory, Index workspace_bytes, Index tile, std::uint64_t shape = 0)
        : StreamMemory(std::move(memory)),
          workspace_(std::max(workspace_bytes, Index{alignment})),
          tile_(tile),
          shape_(shape) {
        wake();
    }
    StreamValues(const StreamValues& other)
        : StreamMemory(other),
          workspace_(other.workspace_.size()),
          tile_(other.tile_),
          shape_(other.shape_) {
        wake();
    }
    StreamValues& operator=(const StreamValues& other) {
        if (computed_bytes() != other.computed_bytes() || workspace_.size() == 0 ||
            shape_ != other.shape_)
            return *this = StreamValues(other);
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

    // Throws Error for a state of another shape, or one that was moved from.
    void expect_of(Index bytes, std::uint64_t shape = 0) const {
        expect_bytes(bytes);
        if (workspace_.size() == 0 || shape_ != shape)
            raise({.field = "state",
                   .expected = "one of this model",
                   .found = workspace_.size() == 0 ? "one that was moved from"
                                                   : "one of a model of another config",
                   .fix = "use a state made by this model's new_state()"});
    }

private:
    AlignedBuffer<std::byte> workspace_;
    Index tile_ = 0;
    std::uint64_t shape_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
