// StreamValues: the state of one stream as a value, with the scratch memory its computations use.
#pragma once

#include <span>
#include <string>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/arena.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/layers/stream_state.hpp"

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
// assignment between states of one owner does not, and keeps the tile).
template <Real T, class Owner>
class StreamValues {
public:
    StreamValues(Index value_bytes, Index workspace_bytes, Index tile)
        : values_(value_bytes), workspace_(workspace_bytes), tile_(tile) {}
    StreamValues(const StreamValues& other)
        : values_(other.values_),
          workspace_(other.workspace_.size()),
          tile_(other.tile_),
          position_(other.position_) {}
    StreamValues& operator=(const StreamValues& other) {
        if (values_.size() == other.values_.size())
            std::copy_n(other.values_.data(), values_.size(), values_.data());
        else *this = StreamValues(other);
        position_ = other.position_;
        return *this;
    }
    StreamValues(StreamValues&&) noexcept = default;
    StreamValues& operator=(StreamValues&&) noexcept = default;
    ~StreamValues() = default;

    // Tokens fed so far.
    std::int64_t position() const noexcept { return position_; }
    // Back to before the first token.
    void reset() noexcept {
        std::fill_n(values_.data(), values_.size(), std::byte{0});
        position_ = 0;
    }

    // The values as bytes, for files. restore takes those of a state of the same model; throws
    // Error for another size.
    std::span<const std::byte> bytes() const noexcept { return values_.span(); }
    void restore(std::span<const std::byte> bytes, std::int64_t position) {
        expect_bytes(static_cast<Index>(bytes.size()));
        std::copy_n(bytes.data(), values_.size(), values_.data());
        position_ = position;
    }
    // Throws Error when this is not a state of so many bytes.
    void expect_bytes(Index expected) const {
        if (values_.size() != expected)
            throw Error({.field = "state",
                         .expected = std::to_string(expected) + " bytes",
                         .found = std::to_string(values_.size()),
                         .fix = "use a state made by this model's new_state()"});
    }

    Stream stream() noexcept { return {values_.data(), position_}; }
    void advance(Index tokens) noexcept { position_ += tokens; }

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
    AlignedBuffer<std::byte> values_;
    AlignedBuffer<std::byte> workspace_;
    Index tile_ = 0;
    std::int64_t position_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
