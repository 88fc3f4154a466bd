// exp and exp2 of batches against the scalar functions: error in units in the last place, ends of
// the range, NaN.
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "hydralm/core/random.hpp"
#include "hydralm/simd/math.hpp"
#include "support/catch.hpp"

using hydralm::Index;
namespace simd = hydralm::simd;

namespace {

struct Exp {
    template <class X>
    auto operator()(X x) const {
        return simd::exp(x);
    }
    struct Finite {
        template <class X>
        auto operator()(X x) const {
            return simd::exp_finite(x);
        }
    };
    static long double exact(long double x) { return std::exp(x); }
    static constexpr double scale = std::numbers::ln2;
};
struct Exp2 {
    template <class X>
    auto operator()(X x) const {
        return simd::exp2(x);
    }
    struct Finite {
        template <class X>
        auto operator()(X x) const {
            return simd::exp2_finite(x);
        }
    };
    static long double exact(long double x) { return std::exp2(x); }
    static constexpr double scale = 1.0;
};

template <class F, class T>
T value(T x) {
    std::array<T, static_cast<std::size_t>(simd::lanes<T>)> out;
    simd::store(out.data(), F{}(simd::broadcast(x)));
    return out[out.size() - 1];
}

template <class F, class T>
void check(double bound) {
    using Limits = std::numeric_limits<T>;
    const double low = (Limits::min_exponent + 1) * F::scale,
                 high = Limits::max_exponent * F::scale;
    hydralm::Random random(7);
    double worst = 0;
    int different = 0;  // results of the form that must not overflow
    for (int i = 0; i < 200'000; ++i) {
        const double range = i % 3 == 0 ? 1.0 : i % 3 == 1 ? 20.0 : high;
        const T x = static_cast<T>(random.uniform(-range, i % 2 == 0 ? 0.0 : range));
        different += value<F>(x) != value<typename F::Finite>(x);
        const long double exact = F::exact(static_cast<long double>(x));
        if (exact > static_cast<long double>(Limits::max()) / 2 ||
            exact < 4 * static_cast<long double>(Limits::min()))
            continue;
        const long double unit = std::ldexp(1.0L, std::ilogb(exact) - (Limits::digits - 1));
        worst = std::max(worst, std::abs(static_cast<double>((value<F>(x) - exact) / unit)));
    }
    INFO("worst error " << worst << " ULP");
    CHECK(worst <= bound);
    CHECK(different == 0);
    for (const T x : {T(low), T(high), std::nextafter(T(high), T(0))})
        CHECK(value<typename F::Finite>(x) == value<F>(x));
    CHECK(value<F>(std::nextafter(T(high), T(0))) ==
          Approx(static_cast<double>(F::exact(std::nextafter(T(high), T(0))))));
    CHECK(value<typename F::Finite>(-Limits::infinity()) == T(0));
    CHECK(std::isnan(value<typename F::Finite>(Limits::quiet_NaN())));
    CHECK(value<F>(T(0)) == T(1));
    CHECK(value<F>(-Limits::infinity()) == T(0));
    CHECK(value<F>(Limits::lowest()) == T(0));
    CHECK(value<F>(T(2 * low)) == T(0));
    CHECK(value<F>(T(2 * high)) == Limits::infinity());
    CHECK(value<F>(Limits::infinity()) == Limits::infinity());
    CHECK(std::isfinite(value<F>(T(high * 0.99999))));
    CHECK(std::isnan(value<F>(Limits::quiet_NaN())));
}

}  // namespace

TEMPLATE_TEST_CASE("exp and exp2 of batches are within 2 ULP", "[simd]", float, double) {
    check<Exp, TestType>(2.0);
    check<Exp2, TestType>(2.0);
}
