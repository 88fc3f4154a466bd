// PairwiseSum: a sum in one fixed binary tree, ((g0 + g1) + (g2 + g3)) + …
//
// The left half of the tree of n terms has the largest power of two below n of them. So a run of
// 2^k terms that begins at a multiple of 2^k is a node of it: several processes may each sum such a
// run, and the sum of their sums is that of one process, bit for bit.
#pragma once

#include <span>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// Terms come one after the other, and are kept as a binary counter is: where bit k of the number of
// those seen is 1, a sum of 2^k of them waits. Memory: ⌈log2 terms⌉ times size elements.
template <Real T>
class PairwiseSum {
public:
    // Of `terms` vectors of `size` elements.
    PairwiseSum(Index terms, Index size) : terms_(terms) {
        for (Index covered = 1; covered < terms; covered *= 2) waiting_.emplace_back(size);
    }

    // term [size] += those it meets on its way up the tree; the last one becomes the sum of all,
    // and the next begins another sum. No allocation, no errors.
    void add(std::span<T> term) noexcept {
        add_part(0, term);
        next();
    }
    // The same piece by piece: elements first, first + 1, … of a term, each once, then next().
    void add_part(Index first, std::span<T> part) noexcept {
        const bool last = seen_ + 1 == terms_;
        std::size_t level = 0;
        for (; level < waiting_.size(); ++level) {
            if ((seen_ >> level) % 2 == 1) out(part) += in(waiting_[level].data() + first);
            else if (!last) break;
        }
        if (!last) std::copy(part.begin(), part.end(), waiting_[level].begin() + first);
    }
    void next() noexcept { seen_ = seen_ + 1 == terms_ ? 0 : seen_ + 1; }
    // Forgets the terms of a sum that is not complete.
    void clear() noexcept { seen_ = 0; }

private:
    Index terms_, seen_ = 0;
    std::vector<AlignedBuffer<T>> waiting_;
};

}  // namespace HYDRALM_NAMESPACE
