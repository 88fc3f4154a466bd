// LogSumExp: ln Σ e^{x_i} of values that arrive in pieces, in constant memory.
//
// Each piece is summed about the largest value so far, its own included: blocks of 32 batches in T,
// between blocks in double, compensated (Neumaier 1974); a piece with a larger value rescales what
// came before (Milakov & Gimelshein, arXiv 1805.02867, algorithm 3). Relative error of the sum:
// below 16 units in the last place of T for any number of values, and 2 + d/2 of a double for each
// piece that raised the maximum by d.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Add values in any pieces: where they are cut changes the rounding, nothing else. −∞ counts for
// nothing; a NaN or +∞ makes the result NaN. Allocates nothing, never throws. Cost: two reads and
// one exponential a value.
template <Real T>
class LogSumExp {
public:
    void add(std::span<const T> values) noexcept {
        std::array<T, static_cast<std::size_t>(block)> terms;
        add_blocks(values, [&](Index) { return terms.data(); });
    }
    // The same bits, and terms[i] = e^{values[i] − shift()} with the shift() after the call.
    // terms [values.size()] may be the values.
    void add(std::span<const T> values, T* terms) noexcept {
        add_blocks(values, [&](Index i) { return terms + i; });
    }

    // The largest value so far, −∞ for none, and Σ e^{x_i − shift()}, 1 ≤ sum() where a value is
    // finite.
    T largest() const noexcept { return largest_; }
    double sum() const noexcept { return sum_ + lost_; }
    // largest(), or 0 while that is −∞.
    T shift() const noexcept {
        return largest_ == -std::numeric_limits<T>::infinity() ? T(0) : largest_;
    }
    // ln Σ e^{x_i}; −∞ for no values.
    double value() const noexcept { return static_cast<double>(shift()) + std::log(sum()); }

private:
    static constexpr Index block = 32 * simd::lanes<T>;  // 16 additions one after another

    // The terms of the block at i go to place(i).
    template <class Place>
    void add_blocks(std::span<const T> values, const Place& place) noexcept {
        const T* x = values.data();
        const auto n = static_cast<Index>(values.size());
        const T largest = max(view(x, n));
        if (largest > largest_) {
            if (sum_ != 0.0) {
                const double factor =
                    std::exp(static_cast<double>(largest_) - static_cast<double>(largest));
                sum_ *= factor;
                lost_ *= factor;
            }
            largest_ = largest;
        }
        for (Index i = 0; i < n; i += block)
            add_to_sum(static_cast<double>(out(std::min(block, n - i), place(i))
                                               .assign_and_sum(exp_finite(in(x + i) - shift()))));
    }

    // What a sum in double loses is kept beside it.
    void add_to_sum(double term) noexcept {
        const double sum = sum_ + term;
        lost_ += sum_ >= term ? (sum_ - sum) + term : (term - sum) + sum_;
        sum_ = sum;
    }

    T largest_ = -std::numeric_limits<T>::infinity();
    double sum_ = 0.0, lost_ = 0.0;
};

// ln Σ_i e^{x_i}.
template <Real T>
double log_sum_exp(std::span<const T> x) noexcept {
    LogSumExp<T> total;
    total.add(x);
    return total.value();
}

}  // namespace HYDRALM_NAMESPACE::kernels
