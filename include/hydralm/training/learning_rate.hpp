// LearningRate: linear warm-up, the peak for a while, then half a cosine down to the least rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

//   step < warmup:  peak (step + 1) / warmup
//   step < hold:    peak
//   else:           least + (peak − least) (1 + cos(π p)) / 2,  p = (step − s) / (total − s) ≤ 1,
//                   s = max(warmup, hold)
//
// Steps count from 0.
struct LearningRate {
    double peak = 3e-4;
    double least = 0.0;
    std::int64_t warmup = 0;
    std::int64_t total = 1;
    std::int64_t hold = 0;

    double operator()(std::int64_t step) const noexcept {
        if (step < warmup)
            return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
        const std::int64_t begin = std::max(warmup, hold);
        const double span = static_cast<double>(std::max<std::int64_t>(1, total - begin));
        const double done = std::clamp(static_cast<double>(step - begin) / span, 0.0, 1.0);
        return least + (peak - least) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
    }
};

}  // namespace HYDRALM_NAMESPACE
