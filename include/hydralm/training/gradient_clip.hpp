// The norm of a whole gradient, and its scaling.
#pragma once

#include <array>
#include <cmath>
#include <span>

#include "hydralm/core/parallel.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// Σ x² in double, in 8 fixed lanes: a plain loop, for an expression has one scalar. No allocation,
// no errors. Cost: one read.
template <Real T>
double sum_of_squares(std::span<const T> x) noexcept {
    std::array<double, 8> lanes{};
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto value = static_cast<double>(x[i]);
        lanes[i % 8] += value * value;
    }
    double sum = 0.0;
    for (const double lane : lanes) sum += lane;
    return sum;
}

// ‖g‖₂ in double, over any number of elements. Not finite when an element is not. Summed in 64
// fixed parts, so that threads do not matter. No allocation, no errors. Cost: one read.
template <Real T>
double gradient_norm(std::span<const T> gradient) noexcept {
    constexpr Index parts = 64;
    std::array<double, parts> sums{};
    const auto size = static_cast<Index>(gradient.size());
    const Index part = ceil_div(size, parts);
    parallel_for(
        parts,
        [&](Index i) {
            const Index first = std::min(size, i * part), last = std::min(size, first + part);
            sums[static_cast<std::size_t>(i)] = sum_of_squares(gradient.subspan(
                static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)));
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
