// map_sum and maximum against plain loops: every length up to several batches, misaligned, in
// place, nothing written beside them.
#include "hydralm/simd/map.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"

using hydralm::Index;
namespace simd = hydralm::simd;

TEMPLATE_TEST_CASE("map_sum: map and the sum of what it wrote", "[simd]", float, double) {
    using T = TestType;
    const T unset = std::numeric_limits<T>::quiet_NaN();
    const auto f = [](auto x) { return x * x + decltype(x)(T(1)); };  // not 0 at 0
    hydralm::Random random(1);
    for (Index n = 0; n <= 10 * simd::lanes<T> + 3; ++n) {
        for (const Index offset : {0, 1}) {
            INFO("n " << n << " offset " << offset);
            const auto size = static_cast<std::size_t>(n);
            const auto first = static_cast<std::ptrdiff_t>(offset);
            std::vector<T> x(size + 2), y(size + 2, unset), mapped(size + 2, unset);
            for (T& v : x) v = static_cast<T>(random.uniform(-1, 1));
            std::vector<T> in_place = x;
            const T sum = simd::map_sum<T>(n, y.data() + first, f, x.data() + first);
            simd::map<T>(n, mapped.data() + first, f, x.data() + first);
            double expected = 0;
            for (std::size_t i = 0; i < y.size(); ++i) {
                const auto at = static_cast<std::ptrdiff_t>(i) - first;
                const bool inside = at >= 0 && at < n;
                CHECK((inside ? y[i] == mapped[i] : std::isnan(y[i])));
                if (inside) expected += static_cast<double>(x[i]) * static_cast<double>(x[i]) + 1;
            }
            CHECK(static_cast<double>(sum) ==
                  Approx(expected).epsilon(8 * std::numeric_limits<T>::epsilon()));
            CHECK(simd::map_sum<T>(n, in_place.data() + first, f, in_place.data() + first) == sum);
            for (std::size_t i = 0; i < y.size(); ++i) {
                const auto at = static_cast<std::ptrdiff_t>(i) - first;
                CHECK(in_place[i] == (at >= 0 && at < n ? y[i] : x[i]));
            }
        }
    }
}

TEMPLATE_TEST_CASE("maximum: the largest at any place, NaN passed over", "[simd]", float, double) {
    using T = TestType;
    const T lowest = -std::numeric_limits<T>::infinity();
    CHECK(simd::maximum<T>(0, nullptr) == lowest);
    for (std::size_t n = 1; n <= static_cast<std::size_t>(10 * simd::lanes<T> + 3); ++n) {
        for (std::size_t largest = 0; largest < n; ++largest) {
            for (const bool falling : {false, true}) {
                std::vector<T> x(n);
                for (std::size_t i = 0; i < n; ++i)
                    x[i] = i % 3 == 0   ? std::numeric_limits<T>::quiet_NaN()
                           : i % 7 == 0 ? lowest
                                        : T(-3) - static_cast<T>(falling ? i : n - i);
                x[largest] = T(-2);
                CHECK(simd::maximum<T>(static_cast<Index>(n), x.data()) == T(-2));
            }
        }
        const std::vector<T> nothing(n, lowest);
        CHECK(simd::maximum<T>(static_cast<Index>(n), nothing.data()) == lowest);
    }
}
