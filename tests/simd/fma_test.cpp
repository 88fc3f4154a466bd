// The scalar multiply-add rounds as that of batches does.
#include "hydralm/core/random.hpp"
#include "hydralm/simd/batch.hpp"
#include "support/catch.hpp"

using hydralm::Index;
namespace simd = hydralm::simd;

TEMPLATE_TEST_CASE("fma: a scalar and a lane of a batch are one", "[simd]", float, double) {
    using T = TestType;
    const auto check = [](T a, T b, T c) {
        const auto lanes =
            simd::fma<T>(simd::broadcast<T>(a), simd::broadcast<T>(b), simd::broadcast<T>(c));
        const T scalar = simd::fma<T>(a, b, c);
        INFO(a << " * " << b << " + " << c);
        CHECK(simd::reduce_max<T>(lanes) == scalar);
    };
    // In double this is a tie that rounds down, and down again in float.
    const T one = T(1) + static_cast<T>(1.0 / 4096);
    check(one, one, static_cast<T>(0x1p-80));
    check(one, one, -static_cast<T>(0x1p-80));
    hydralm::Random random(1);
    for (int i = 0; i < 10000; ++i)
        check(static_cast<T>(random.normal()), static_cast<T>(random.normal()),
              static_cast<T>(random.normal()));
}
