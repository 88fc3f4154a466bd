// LearningRate: linear warm-up, then half a cosine down to the least rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

//   step < warmup:  peak (step + 1) / warmup
//   else:           least + (peak − least) (1 + cos(π p)) / 2,  p = (step − warmup) / (total −
//   warmup) ≤ 1
//
// Steps count from 0.
struct LearningRate {
    double peak = 3e-4;
    double least = 0.0;
    std::int64_t warmup = 0;
    std::int64_t total = 1;

    double operator()(std::int64_t step) const noexcept {
        if (step < warmup)
            return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
        const double span = static_cast<double>(std::max<std::int64_t>(1, total - warmup));
        const double done = std::min(1.0, static_cast<double>(step - warmup) / span);
        return least + (peak - least) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
    }
};

}  // namespace HYDRALM_NAMESPACE
