// Rows in int16 with a scale, against the definition in long double.
#include "hydralm/kernels/int16_rows.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace {

using namespace hydralm;

template <class T>
struct Rounded {
    std::vector<T> x;
    std::vector<std::int16_t> q;
    T scale;
};

// A row that begins beyond any alignment, between elements that stay as they are.
template <class T>
Rounded<T> rounded(const std::vector<T>& row) {
    constexpr T untouched = 77;
    const auto n = static_cast<Index>(row.size());
    std::vector<T> x{untouched};
    x.insert(x.end(), row.begin(), row.end());
    x.push_back(untouched);
    std::vector<std::int16_t> q(row.size() + 2, 77);
    Rounded<T> result{{}, {}, kernels::round_to_int16(n, x.data() + 1, q.data() + 1)};
    CHECK((x.front() == untouched && x.back() == untouched));
    CHECK((q.front() == 77 && q.back() == 77));
    result.x.assign(x.begin() + 1, x.end() - 1);
    result.q.assign(q.begin() + 1, q.end() - 1);
    std::vector<T> widened(row.size() + 1, std::numeric_limits<T>::quiet_NaN());
    kernels::widen_int16(n, result.q.data(), result.scale, widened.data() + 1);
    widened.erase(widened.begin());
    CHECK(test::same_bits(widened, result.x));
    return result;
}

}  // namespace

TEMPLATE_TEST_CASE("Rows in int16 lie within half a step of what they were", "[int16]", float,
                   double) {
    using T = TestType;
    Random random(1);
    for (const double size : {1e-30, 1.0, 1e30})
        for (Index n = 0; n <= 70; ++n) {
            std::vector<T> row(static_cast<std::size_t>(n));
            long double largest = 0;
            for (T& x : row) {
                x = static_cast<T>(size * random.normal());
                largest = std::max(largest, std::abs(static_cast<long double>(x)));
            }
            const auto [x, q, scale] = rounded(row);
            CAPTURE(size, n);
            CHECK(static_cast<long double>(scale) == Approx(double(largest / 32767)));
            constexpr long double eps = std::numeric_limits<T>::epsilon();
            bool near = true, full = n == 0;
            for (std::size_t i = 0; i < row.size(); ++i) {
                near = near && std::abs(static_cast<long double>(x[i]) -
                                        static_cast<long double>(row[i])) <=
                                   largest / 32767 / 2 + 2 * eps * largest;
                full = full || std::abs(q[i]) == 32767;
            }
            CHECK(near);
            CHECK(full);
            CHECK(test::same_bits(rounded(x).q, q));  // what was rounded stays
        }
}

TEMPLATE_TEST_CASE("Rows that int16 cannot keep become zeros or NaN", "[int16]", float, double) {
    using T = TestType;
    using limits = std::numeric_limits<T>;
    for (const std::size_t n : {1U, 7U, 33U})
        for (std::size_t at = 0; at < n; ++at) {
            for (const T lost : {T(0), T(-0.0), limits::denorm_min(), limits::min() * 1000}) {
                std::vector<T> row(n);
                row[at] = lost;
                const auto [x, q, scale] = rounded(row);
                CHECK(scale == 0);
                CHECK(x == std::vector<T>(n));
            }
            for (const T poison : {limits::infinity(), -limits::infinity(), limits::quiet_NaN(),
                                   -limits::quiet_NaN()}) {
                std::vector<T> row(n, T(1));
                row[at] = poison;
                const auto [x, q, scale] = rounded(row);
                bool all = true;
                for (const T value : x) all = all && std::isnan(value);
                CHECK(all);
            }
            std::vector<T> row(n);
            row[at] = limits::max() / 2;
            CHECK(rounded(row).x[at] == Approx(double(limits::max() / 2)));
            row[at] = 32767 * limits::min();
            CHECK(rounded(row).x == row);
        }
}
