// Causal depthwise convolution in plain loops: the specification of the fast form.
#pragma once

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// y_t[c] = f(b[c] + Σ_{j < K} w[j, c] · z_{t − K + 1 + j}[c]), z being the cache followed by x;
// then cache ← the last K − 1 rows of z.
//   x        [N, C]
//   weight   [K, C], tap-major (pack_short_conv_weight), K ≥ 1; tap K − 1 meets the current token
//   bias     [C], or null for none
//   cache    [K − 1, C], oldest first; zeros at the start of a sequence; read and overwritten
//   y        [N, C], written; aliases nothing
//   f        T → T, e.g. [](auto z) { return simd::silu(z); }
// No allocation. Source: SPEC.md §3.
template <Real T, class Activation>
void short_conv_reference(MatrixView<const T> x, MatrixView<const T> weight, const T* bias,
                          MatrixView<T> cache, MatrixView<T> y, const Activation& f) noexcept {
    const Index taps = weight.rows();
    const auto z = [&](Index t, Index c) { return t < 0 ? cache(taps - 1 + t, c) : x(t, c); };
    for (Index c = 0; c < x.cols(); ++c) {
        for (Index t = 0; t < x.rows(); ++t) {
            T sum = bias != nullptr ? bias[c] : T(0);
            for (Index j = 0; j < taps; ++j) sum += weight(j, c) * z(t - taps + 1 + j, c);
            y(t, c) = f(sum);
        }
        for (Index i = 0; i < taps - 1; ++i) cache(i, c) = z(x.rows() - taps + 1 + i, c);
    }
}

// Weights of a file, [C, K] row-major, as the kernels want them: [K, C].
template <Real T>
void pack_short_conv_weight(MatrixView<const T> file_weight, MatrixView<T> weight) noexcept {
    for (Index c = 0; c < file_weight.rows(); ++c)
        for (Index j = 0; j < file_weight.cols(); ++j) weight(j, c) = file_weight(c, j);
}

}  // namespace HYDRALM_NAMESPACE::kernels
