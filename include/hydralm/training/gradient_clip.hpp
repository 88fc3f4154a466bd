// The norm of a whole gradient, and its scaling.
#pragma once

#include <array>
#include <cmath>
#include <span>

#include "hydralm/core/parallel.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// ‖g‖₂ in double, over any number of elements. Not finite when an element is not. Summed in 64
// fixed parts, so that threads do not matter: a plain loop, for an expression has one scalar. No
// allocation, no errors. Cost: one read.
template <Real T>
double gradient_norm(std::span<const T> gradient) noexcept {
    constexpr Index parts = 64;
    std::array<double, parts> sums{};
    const auto size = static_cast<Index>(gradient.size());
    const Index part = ceil_div(size, parts);
    parallel_for(
        parts,
        [&](Index i) {
            std::array<double, 8> lanes{};
            const Index first = std::min(size, i * part), last = std::min(size, first + part);
            for (Index j = first; j < last; ++j) {
                const auto x = static_cast<double>(gradient[static_cast<std::size_t>(j)]);
                lanes[static_cast<std::size_t>(j - first) % 8] += x * x;
            }
            for (const double lane : lanes) sums[static_cast<std::size_t>(i)] += lane;
        },
        size > 1 << 16);
    double sum = 0.0;
    for (const double s : sums) sum += s;
    return std::sqrt(sum);
}

// g *= factor, in place.
template <Real T>
void scale_gradient(std::span<T> gradient, double factor) noexcept {
    out(gradient) *= factor;
}

}  // namespace HYDRALM_NAMESPACE
