// Reductions of expressions against plain loops: every length up to several batches, misaligned, in
// place, nothing written beside them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/simd/expression.hpp"
#include "support/catch.hpp"

using namespace hydralm;
namespace simd = hydralm::simd;

TEMPLATE_TEST_CASE("assign_and_sum: what = writes, and the sum of it", "[simd]", float, double) {
    using T = TestType;
    const T unset = std::numeric_limits<T>::quiet_NaN();
    const auto f = [](const auto& x) { return x * x + 1; };  // not 0 at 0
    hydralm::Random random(1);
    for (Index n = 0; n <= 10 * simd::lanes<T> + 3; ++n) {
        for (const Index offset : {0, 1}) {
            INFO("n " << n << " offset " << offset);
            const auto size = static_cast<std::size_t>(n);
            const auto first = static_cast<std::ptrdiff_t>(offset);
            std::vector<T> x(size + 2), y(size + 2, unset), mapped(size + 2, unset);
            for (T& v : x) v = static_cast<T>(random.uniform(-1, 1));
            std::vector<T> in_place = x;
            const auto from = view(x.data() + first, n);
            const T sum = out(n, y.data() + first).assign_and_sum(f(from));
            out(n, mapped.data() + first) = f(from);
            double expected = 0;
            for (std::size_t i = 0; i < y.size(); ++i) {
                const auto at = static_cast<std::ptrdiff_t>(i) - first;
                const bool inside = at >= 0 && at < n;
                CHECK((inside ? y[i] == mapped[i] : std::isnan(y[i])));
                if (inside) expected += static_cast<double>(x[i]) * static_cast<double>(x[i]) + 1;
            }
            const double epsilon = 8 * std::numeric_limits<T>::epsilon();
            CHECK(static_cast<double>(sum) == Approx(expected).epsilon(epsilon));
            CHECK(static_cast<double>(hydralm::sum(f(from))) == Approx(expected).epsilon(epsilon));
            const auto same = view(in_place.data() + first, n);
            CHECK(out(same).assign_and_sum(f(same)) == sum);
            for (std::size_t i = 0; i < y.size(); ++i) {
                const auto at = static_cast<std::ptrdiff_t>(i) - first;
                CHECK(in_place[i] == (at >= 0 && at < n ? y[i] : x[i]));
            }
        }
    }
}

TEMPLATE_TEST_CASE("max: the largest at any place, NaN passed over", "[simd]", float, double) {
    using T = TestType;
    const T lowest = -std::numeric_limits<T>::infinity();
    CHECK(max(hydralm::RowView<const T>()) == lowest);
    for (std::size_t n = 1; n <= static_cast<std::size_t>(10 * simd::lanes<T> + 3); ++n) {
        for (std::size_t largest = 0; largest < n; ++largest) {
            for (const bool falling : {false, true}) {
                std::vector<T> x(n);
                for (std::size_t i = 0; i < n; ++i)
                    x[i] = i % 3 == 0   ? std::numeric_limits<T>::quiet_NaN()
                           : i % 7 == 0 ? lowest
                                        : T(-3) - static_cast<T>(falling ? i : n - i);
                x[largest] = T(-2);
                CHECK(max(view(x)) == T(-2));
                CHECK(max(view(x) * 2 + 1) == T(-3));
            }
        }
        const std::vector<T> nothing(n, lowest);
        CHECK(max(view(nothing)) == lowest);
    }
}

TEMPLATE_TEST_CASE("sum, dot and mean_of_squares: within their bound, in a fixed order", "[simd]",
                   float, double) {
    using T = TestType;
    hydralm::Random random(3);
    for (const Index n : {0, 1, 2, 7, 8, 31, 64, 65, 1000, 4099}) {
        std::vector<T> a(static_cast<std::size_t>(n) + 1), b(a.size());
        for (T& v : a) v = static_cast<T>(random.normal());
        for (T& v : b) v = static_cast<T>(random.normal());
        const auto x = view(a.data(), n), y = view(b.data(), n);
        long double exact = 0, size = 0, squares = 0;
        for (Index i = 0; i < n; ++i) {
            const long double term = static_cast<long double>(x[i]) * y[i];
            exact += term;
            size += std::abs(term);
            squares += static_cast<long double>(x[i]) * x[i];
        }
        const auto bound = static_cast<double>(std::numeric_limits<T>::epsilon()) *
                           (static_cast<double>(n) / (4.0 * simd::lanes<T>)+std::log2(
                                                         static_cast<double>(simd::lanes<T>)) +
                            4);
        INFO("n " << n);
        CHECK(std::abs(static_cast<double>(dot(x, y) - exact)) <=
              bound * static_cast<double>(size));
        CHECK(sum(x * y) == dot(x, y));
        if (n > 0)
            CHECK(static_cast<double>(mean_of_squares(x)) ==
                  Approx(static_cast<double>(squares / n)).epsilon(bound));
        // Not aligned: the same bits. Elements behind the end do not matter.
        std::vector<T> moved(a.size() + 3, std::numeric_limits<T>::quiet_NaN());
        std::copy_n(a.data(), n, moved.data() + 3);
        CHECK(dot(view(moved.data() + 3, n), y) == dot(x, y));
    }
    const T three[] = {1, 2, 3};
    CHECK(sum(view<3>(three)) == T(6));
    CHECK(dot(std::span(three), in(three)) == T(14));
}

TEST_CASE("reductions name both sizes when operands differ") {
    const std::vector<float> a(5), b(7);
    CHECK_THROWS_WITH(dot(view(a), view(b)),
                      Catch::Contains("expected operands of the output's shape, [5], found an "
                                      "operand of [7]"));
}
