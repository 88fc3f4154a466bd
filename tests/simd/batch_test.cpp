// Reductions over the lanes of a batch: in one order, and what they make of NaN.
#include "hydralm/simd/batch.hpp"

#include <array>
#include <limits>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"

using hydralm::Index;
namespace simd = hydralm::simd;

TEMPLATE_TEST_CASE("reduce_add, reduce_max: halves folded onto each other", "[simd]", float,
                   double) {
    using T = TestType;
    constexpr auto lanes = static_cast<std::size_t>(simd::lanes<T>);
    hydralm::Random random(1);
    for (int round = 0; round < 1000; ++round) {
        std::array<T, lanes> x, sums, tops;
        for (T& v : x) v = static_cast<T>(random.normal());
        sums = tops = x;
        for (std::size_t half = lanes / 2; half > 0; half /= 2)
            for (std::size_t i = 0; i < half; ++i) {
                sums[i] = sums[i] + sums[i + half];
                tops[i] = tops[i] > tops[i + half] ? tops[i] : tops[i + half];
            }
        const auto batch = simd::load<T>(x.data());
        CHECK(simd::reduce_add<T>(batch) == sums[0]);
        CHECK(simd::reduce_max<T>(batch) == tops[0]);
    }
}

TEMPLATE_TEST_CASE("max: the second of two where one is NaN", "[simd]", float, double) {
    using T = TestType;
    const auto nan = simd::broadcast<T>(std::numeric_limits<T>::quiet_NaN());
    const auto one = simd::broadcast<T>(1), two = simd::broadcast<T>(2);
    CHECK(simd::reduce_max<T>(simd::max<T>(nan, one)) == T(1));
    const T unordered = simd::reduce_add<T>(simd::max<T>(one, nan));
    CHECK(unordered != unordered);
    CHECK(simd::reduce_max<T>(simd::max<T>(two, one)) == T(2));
    CHECK(simd::reduce_max<T>(simd::max<T>(one, two)) == T(2));
}
