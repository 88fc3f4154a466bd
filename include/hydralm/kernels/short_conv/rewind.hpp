// The cache of a causal convolution as it was a few tokens ago.
#pragma once

#include <algorithm>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// cache [K − 1, C] = the last K − 1 rows of before [K − 1, C] followed by the first kept rows of x:
// what short_conv leaves after those. No overlap. No allocation, no errors.
template <Real T>
void short_conv_rewind(MatrixView<const T> before, MatrixView<const std::type_identity_t<T>> x,
                       Index kept, MatrixView<std::type_identity_t<T>> cache) noexcept {
    for (Index i = 0; i < cache.rows(); ++i) {
        const Index row = kept + i;
        std::copy_n(row < before.rows() ? before.row(row) : x.row(row - before.rows()),
                    cache.cols(), cache.row(i));
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
