// for_rows: independent rows shared among the threads of the pool, in blocks big enough to be worth
// a thread.
#pragma once

#include <algorithm>

#include "hydralm/core/parallel.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Calls task(first, count) for blocks of rows that cover [0, rows) once. cost: elements a row
// touches, counted as plain arithmetic; below two blocks of about 2^15 elements everything runs on
// the calling thread. How rows are blocked must not matter to their numbers. No allocation; task
// must not throw.
template <class F>
void for_rows(Index rows, Index cost, const F& task) noexcept {
    constexpr Index elements_per_block = Index{1} << 15;
    const Index per_block = std::max<Index>(1, elements_per_block / std::max<Index>(1, cost));
    parallel_for(ceil_div(rows, per_block), [&](Index block) {
        const Index first = block * per_block;
        task(first, std::min(per_block, rows - first));
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
