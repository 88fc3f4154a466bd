// Batches of random bytes, for benchmarks of training: speed does not depend on the text.
#pragma once

#include "hydralm/core/random.hpp"
#include "hydralm/training/batch_source.hpp"

namespace hydralm::benchmarks {

class RandomBytes : public BatchSource {
public:
    RandomBytes(Index streams, Index length) : streams_(streams), length_(length) {}

    void next(Batch& batch) override {
        batch.streams = streams_;
        batch.length = length_;
        batch.tokens.resize(static_cast<std::size_t>(streams_ * length_));
        Random random(1, position_++);
        for (token_id& token : batch.tokens) token = static_cast<token_id>(random.below(256));
        batch.labels = batch.tokens;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    Index streams_, length_;
    std::uint64_t position_ = 0;
};

}  // namespace hydralm::benchmarks
