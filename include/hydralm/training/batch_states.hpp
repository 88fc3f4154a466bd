// BatchStates: the states of the streams of a batch, side by side.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/layers/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

// Streams of one model at one position, which a batch continues or begins anew.
template <class Model>
class BatchStates {
public:
    explicit BatchStates(Index streams)
        : bytes_(streams * Model::state_bytes), streams_(static_cast<std::size_t>(streams)) {
        for (std::size_t b = 0; b < streams_.size(); ++b)
            streams_[b].bytes = bytes_.data() + static_cast<Index>(b) * Model::state_bytes;
    }
    BatchStates(BatchStates&&) noexcept = default;
    BatchStates& operator=(BatchStates&&) noexcept = default;

    Streams streams() const noexcept {
        return {streams_.data(), static_cast<Index>(streams_.size())};
    }
    // Tokens each stream has been fed.
    std::int64_t position() const noexcept { return streams_.front().position; }
    void reset() noexcept {
        std::fill_n(bytes_.data(), bytes_.size(), std::byte{0});
        set_position(0);
    }
    void advance(Index tokens) noexcept { set_position(position() + tokens); }
    void set_position(std::int64_t position) noexcept {
        for (Stream& stream : streams_) stream.position = position;
    }
    std::span<std::byte> bytes() noexcept { return bytes_.span(); }
    std::span<const std::byte> bytes() const noexcept { return bytes_.span(); }

private:
    AlignedBuffer<std::byte> bytes_;
    std::vector<Stream> streams_;
};

}  // namespace HYDRALM_NAMESPACE
