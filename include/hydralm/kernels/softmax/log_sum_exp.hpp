// LogSumExp: ln Σ e^{x_i} of values that arrive in pieces, in one pass and constant memory.
//
// Blocks of 512 are summed in T about their own maximum; between blocks the sum is a double about
// the largest value so far (Milakov & Gimelshein, arXiv 1805.02867, algorithm 3). Relative error of
// the sum: below 16 units in the last place of T, for any number of values.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "hydralm/simd/map.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Add values in any pieces; a piece that ends inside a block of 512 changes the rounding, nothing
// else. −∞ counts for nothing; a NaN or +∞ makes the result NaN. Allocates nothing, never throws.
template <Real T>
class LogSumExp {
public:
    void add(std::span<const T> values) noexcept {
        const auto n = static_cast<Index>(values.size());
        for (Index i = 0; i < n; i += block) add_block(values.data() + i, std::min(block, n - i));
    }

    // The largest value so far, −∞ for none, and Σ e^{x_i − shift()}, 1 ≤ sum() where a value is
    // finite.
    T largest() const noexcept { return largest_; }
    double sum() const noexcept { return sum_; }
    // largest(), or 0 while that is −∞.
    T shift() const noexcept {
        return largest_ == -std::numeric_limits<T>::infinity() ? T(0) : largest_;
    }
    // ln Σ e^{x_i}; −∞ for no values.
    double value() const noexcept { return static_cast<double>(shift()) + std::log(sum_); }

private:
    static constexpr Index block = 512;

    void add_block(const T* x, Index n) noexcept {
        const T largest = simd::maximum<T>(n, x);
        if (largest > largest_) {
            if (sum_ != 0.0)
                sum_ *= std::exp(static_cast<double>(largest_) - static_cast<double>(largest));
            largest_ = largest;
        }
        const T shift = this->shift();
        const auto m = simd::broadcast<T>(shift);
        const Index whole = n - n % simd::lanes<T>;
        T sum = simd::sum<T>(whole, [m](auto v) { return simd::exp(v - m); }, x);
        for (Index i = whole; i < n; ++i) sum += std::exp(x[i] - shift);
        sum_ += static_cast<double>(sum);
    }

    T largest_ = -std::numeric_limits<T>::infinity();
    double sum_ = 0.0;
};

// ln Σ_i e^{x_i}, in one pass.
template <Real T>
double log_sum_exp(std::span<const T> x) noexcept {
    LogSumExp<T> total;
    total.add(x);
    return total.value();
}

}  // namespace HYDRALM_NAMESPACE::kernels
