// BatchSource: where training gets its batches.
#pragma once

#include <cstdint>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

struct Batch {
    Index streams = 0, length = 0;
    std::vector<token_id> tokens;  // [streams · length], stream after stream
    std::vector<token_id> labels;  // the same shape: what follows each token, or ignore_index
    bool fresh = true;             // the streams begin here; else they go on where they were
};

// Throws Error for a batch whose streams go on from the one before: those are dealt to no two
// ranks.
inline void expect_fresh(const Batch& batch) {
    if (!batch.fresh)
        raise({.field = "batch",
               .expected = "streams that begin in it, on several ranks",
               .found = "streams carried on from the batch before",
               .fix = "train on one rank, or from windows (RandomWindows)"});
}

// Batches in an order that depends on the seed alone: batch i is a function of i, so that one
// number resumes a source exactly.
class BatchSource {
public:
    virtual ~BatchSource() = default;
    // Fills the next batch, in the memory it has.
    virtual void next(Batch& batch) = 0;
    // Batches given out so far; seek(n) goes on with batch n.
    virtual std::uint64_t position() const = 0;
    virtual void seek(std::uint64_t position) = 0;
};

}  // namespace HYDRALM_NAMESPACE
