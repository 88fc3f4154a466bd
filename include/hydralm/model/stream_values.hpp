// StreamValues: the state of one stream as a value, with the scratch memory its computations use.
#pragma once

#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/layers/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

// Copying copies what the stream carries on; scratch memory is made anew (copy construction
// allocates, copy assignment between states of one model does not).
template <Real T>
class StreamValues {
public:
    StreamValues(Index value_bytes, Index workspace_bytes)
        : values_(value_bytes), workspace_(workspace_bytes) {}
    StreamValues(const StreamValues& other)
        : values_(other.values_), workspace_(other.workspace_.size()), position_(other.position_) {}
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

    // The values as bytes, for files; restore takes bytes of the same model.
    std::span<const std::byte> bytes() const noexcept { return values_.span(); }
    void restore(std::span<const std::byte> bytes, std::int64_t position) noexcept {
        std::copy_n(bytes.data(), values_.size(), values_.data());
        position_ = position;
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

    // The most tokens, at most limit, whose scratch fits: limit or a power of two below it.
    template <class F>
    Index tile(const F& bytes, Index limit) const noexcept {
        while (limit > 1 && bytes(limit) > workspace_.size()) limit /= 2;
        return limit;
    }

private:
    AlignedBuffer<std::byte> values_;
    AlignedBuffer<std::byte> workspace_;
    std::int64_t position_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
