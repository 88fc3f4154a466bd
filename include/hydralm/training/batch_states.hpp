// BatchStates: the states of the streams of a batch, side by side.
#pragma once

#include <span>
#include <vector>

#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// Streams of one model at one position, which a batch continues or begins anew.
template <class Model>
class BatchStates {
public:
    BatchStates(const Model& model, Index streams)
        : memory_(static_cast<std::size_t>(streams), model.new_memory()), views_(memory_.size()) {}

    // The streams, with memory for the next tokens. Throws std::bad_alloc.
    Streams streams(Index tokens) {
        for (std::size_t b = 0; b < memory_.size(); ++b) {
            memory_[b].reserve(tokens);
            views_[b] = memory_[b].stream();
        }
        return {views_.data(), count()};
    }
    Index count() const noexcept { return static_cast<Index>(memory_.size()); }
    StreamMemory& operator[](Index b) noexcept { return memory_[static_cast<std::size_t>(b)]; }
    const StreamMemory& operator[](Index b) const noexcept {
        return memory_[static_cast<std::size_t>(b)];
    }
    // Tokens each stream has been fed.
    std::int64_t position() const noexcept { return memory_.front().position(); }
    // All of it as bytes for files, stream after stream, and what restore takes. restore throws
    // Error for other sizes, and leaves some streams changed then.
    std::vector<std::byte> bytes() const {
        std::vector<std::byte> all;
        for (const StreamMemory& memory : memory_)
            all.insert(all.end(), memory.bytes().begin(), memory.bytes().end());
        return all;
    }
    std::vector<std::byte> bank_bytes() const {
        std::vector<std::byte> all;
        for (const StreamMemory& memory : memory_) {
            const auto bytes = memory.bank_bytes();
            all.insert(all.end(), bytes.begin(), bytes.end());
        }
        return all;
    }
    void restore(std::span<const std::byte> bytes, std::span<const std::byte> bank_bytes,
                 std::int64_t position) {
        const std::size_t each = bytes.size() / memory_.size(),
                          bank = bank_bytes.size() / memory_.size();
        if (bytes.size() % memory_.size() != 0 || bank_bytes.size() % memory_.size() != 0)
            raise({.field = "states",
                   .expected = "the bytes of " + std::to_string(memory_.size()) + " streams",
                   .found = std::to_string(bytes.size()) + ", and " +
                            std::to_string(bank_bytes.size()) + " of banks",
                   .fix = "restore what bytes and bank_bytes gave"});
        for (std::size_t b = 0; b < memory_.size(); ++b)
            memory_[b].restore(bytes.subspan(b * each, each), bank_bytes.subspan(b * bank, bank),
                               position);
    }

    void reset() noexcept {
        for (StreamMemory& memory : memory_) memory.reset();
    }
    void advance(Index tokens) noexcept {
        for (StreamMemory& memory : memory_) memory.advance(tokens);
    }

private:
    std::vector<StreamMemory> memory_;
    std::vector<Stream> views_;
};

}  // namespace HYDRALM_NAMESPACE
