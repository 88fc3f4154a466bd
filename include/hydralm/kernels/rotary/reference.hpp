// Rotary position embedding in plain loops: the specification of the fast forms.
#pragma once

#include <cmath>
#include <cstdint>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Turns the pairs (x[j], x[j + R/2]) of every head by direction · position · base^(−2j/R); row n
// stands at first_position + n.
//   x          [N, H·D], in place
//   turned     R ≤ D, even: how many elements of a head turn, from its first; 0: D
//   direction  1, or −1 for the inverse, which is the gradient
// Angles are double. No allocation. Source: SPEC.md §4; Su et al., arXiv 2104.09864, split-half
// pairs.
template <Real T>
void rotary_reference(MatrixView<T> x, Index D, std::int64_t first_position, double base,
                      double direction = 1, Index turned = 0) noexcept {
    const Index R = turned > 0 ? turned : D;
    for (Index n = 0; n < x.rows(); ++n)
        for (Index head = 0; head < x.cols(); head += D)
            for (Index j = 0; j < R / 2; ++j) {
                const double frequency =
                    std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(R));
                const double angle =
                    direction * static_cast<double>(first_position + n) * frequency;
                const T c = static_cast<T>(std::cos(angle)), s = static_cast<T>(std::sin(angle));
                const T a = x(n, head + j), b = x(n, head + j + R / 2);
                x(n, head + j) = a * c - b * s;
                x(n, head + j + R / 2) = b * c + a * s;
            }
}

}  // namespace HYDRALM_NAMESPACE::kernels
