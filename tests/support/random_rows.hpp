// Rows: matrices for tests of row kernels, misaligned, with a stride wider than the row and guards
// between rows.
#pragma once

#include <limits>
#include <span>
#include <vector>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/random.hpp"

namespace hydralm::test {

// [rows, cols] of normal numbers from a seed, or of NaN without one: what a kernel forgets to write
// is seen.
template <class T>
class Rows {
public:
    Rows(Index rows, Index cols)
        : rows_(rows),
          cols_(cols),
          storage_(static_cast<std::size_t>(1 + rows * (cols + guard)),
                   std::numeric_limits<T>::quiet_NaN()) {
        for (Index n = 0; n < rows; ++n)
            for (Index i = 0; i < guard; ++i) view().row(n)[cols + i] = mark;
    }
    Rows(Index rows, Index cols, std::uint64_t seed, double scale = 1.0) : Rows(rows, cols) {
        Random random(seed);
        for (Index n = 0; n < rows; ++n)
            for (T& v : row(n)) v = static_cast<T>(scale * random.normal());
    }

    MatrixView<T> view() noexcept { return {storage_.data() + 1, rows_, cols_, cols_ + guard}; }
    MatrixView<const T> view() const noexcept {
        return {storage_.data() + 1, rows_, cols_, cols_ + guard};
    }
    std::span<T> row(Index n) noexcept { return {view().row(n), static_cast<std::size_t>(cols_)}; }
    std::span<const T> row(Index n) const noexcept {
        return {view().row(n), static_cast<std::size_t>(cols_)};
    }

    // The elements without the guards, row after row.
    std::vector<T> values() const {
        std::vector<T> all;
        for (Index n = 0; n < rows_; ++n) all.insert(all.end(), row(n).begin(), row(n).end());
        return all;
    }
    bool padding_untouched() const {
        for (Index n = 0; n < rows_; ++n)
            for (Index i = 0; i < guard; ++i)
                if (view().row(n)[cols_ + i] != mark) return false;
        return true;
    }

private:
    static constexpr Index guard = 3;
    static constexpr T mark = T(12345);

    Index rows_, cols_;
    std::vector<T> storage_;
};

// Σ a ⊙ b.
inline double inner_product(const Rows<double>& a, const Rows<double>& b) {
    const auto u = a.values(), v = b.values();
    double sum = 0.0;
    for (std::size_t i = 0; i < u.size(); ++i) sum += u[i] * v[i];
    return sum;
}

// (f(x + h) − f(x − h)) / 2h for a function that reads x where it stands.
template <class F>
double central_difference(const F& f, double& x, double h = 1e-5) {
    const double kept = x;
    x = kept + h;
    const double above = f();
    x = kept - h;
    const double below = f();
    x = kept;
    return (above - below) / (2.0 * h);
}

}  // namespace hydralm::test
