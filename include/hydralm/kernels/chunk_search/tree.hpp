// What stands for a node of the tree in which chunks are looked for: of the vectors of the 64 nodes
// in it, element by element, the sum or the largest.
#pragma once

#include <algorithm>

#include "hydralm/core/paged_past.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// node[64·d] = Σ_i nodes[d, i] in the order of i, for d < width. nodes: [width, 64], a node a
// column; node: a column of such a matrix of the next height.
template <Real T>
void sum_nodes(Index width, const T* nodes, T* node) noexcept {
    for (Index d = 0; d < width; ++d) {  // by hand: the order is what a reader would write
        T sum(0);
        for (Index i = 0; i < chunk_group; ++i) sum += nodes[d * chunk_group + i];
        node[d * chunk_group] = sum;
    }
}

// node[64·d] = max_i nodes[d, i].
template <Real T>
void bound_nodes(Index width, const T* nodes, T* node) noexcept {
    for (Index d = 0; d < width; ++d)
        node[d * chunk_group] = max(view(nodes + d * chunk_group, chunk_group));
}

}  // namespace HYDRALM_NAMESPACE::kernels
