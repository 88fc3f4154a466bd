// Element functions of expressions against exact values: error in units in the last place, and what
// they give at the ends of the range. exp has a test of its own.
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/simd/expression.hpp"
#include "support/catch.hpp"

using namespace hydralm;

namespace {

template <class T, class F>
T value(const F& f, T x) {
    T y;
    out(view(&y, 1)) = f(view(&x, 1));
    return y;
}

// The largest error of f on [low, high], small values among them, in units in the last place of the
// exact value, or of x.
template <class T, class F, class Exact>
double worst_error(const F& f, const Exact& exact, double low, double high, bool of_argument) {
    using Limits = std::numeric_limits<T>;
    hydralm::Random random(5);
    std::vector<T> x(100'000), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double sign = low < 0 && i % 2 == 0 ? -1 : 1;
        x[i] = static_cast<T>(i % 3 == 0 ? sign * std::exp(random.uniform(-20, std::log(high)))
                                         : random.uniform(low, high));
    }
    out(view(y)) = f(view(x));
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto argument = static_cast<long double>(x[i]);
        const long double e = exact(argument);
        if (std::abs(e) < 4 * static_cast<long double>(Limits::min())) continue;
        const long double unit =
            std::ldexp(1.0L, std::ilogb(of_argument ? argument : e) - (Limits::digits - 1));
        const auto error = static_cast<double>(std::abs((y[i] - e) / unit));
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

template <class T, class F, class Exact>
void check(const char* name, double bound, const F& f, const Exact& exact, double low, double high,
           bool of_argument = false) {
    const double worst = worst_error<T>(f, exact, low, high, of_argument);
    INFO(name << ": worst error " << worst << " ULP, bound " << bound);
    CHECK(worst <= bound);
}

const auto exact_sigmoid = [](long double x) { return 1 / (1 + std::exp(-x)); };

}  // namespace

TEMPLATE_TEST_CASE("element functions keep their bounds", "[simd]", float, double) {
    using T = TestType;
    check<T>(
        "log", 1, [](auto x) { return log(x); }, [](long double x) { return std::log(x); }, 1e-30,
        1e3);
    const double end = std::numeric_limits<T>::max_exponent * std::numbers::ln2 * 0.9999;
    check<T>("sigmoid", 3, [](auto x) { return sigmoid(x); }, exact_sigmoid, -end, end);
    check<T>("sigmoid", 3, [](auto x) { return sigmoid(x); }, exact_sigmoid, -8, 8);
    check<T>(
        "silu", 3, [](auto x) { return silu(x); },
        [](long double x) { return x * exact_sigmoid(x); }, -end, end);
    check<T>(
        "silu", 3, [](auto x) { return silu(x); },
        [](long double x) { return x * exact_sigmoid(x); }, -8, 8);
    check<T>(
        "softplus", 2, [](auto x) { return softplus(x); },
        [](long double x) { return std::max(x, 0.0L) + std::log1p(std::exp(-std::abs(x))); }, -80,
        80);
    check<T>(
        "tanh", 2, [](auto x) { return tanh(x); }, [](long double x) { return std::tanh(x); }, -20,
        20);
    check<T>(
        "gelu", std::numeric_limits<T>::digits == 24 ? 4 : 32, [](auto x) { return gelu(x); },
        [](long double x) { return 0.5L * x * std::erfc(-x / std::sqrt(2.0L)); }, -9, 9, true);
    check<T>(
        "sqrt", 0.5, [](auto x) { return sqrt(x); }, [](long double x) { return std::sqrt(x); }, 0,
        1e6);
    check<T>(
        "rsqrt", 1.5, [](auto x) { return rsqrt(x); },
        [](long double x) { return 1 / std::sqrt(x); }, 1e-6, 1e6);
    check<T>(
        "square", 0.5, [](auto x) { return square(x); }, [](long double x) { return x * x; }, -1e3,
        1e3);
    check<T>(
        "abs", 0, [](auto x) { return abs(x); }, [](long double x) { return std::abs(x); }, -1e3,
        1e3);
}

TEMPLATE_TEST_CASE("element functions at the ends of the range", "[simd]", float, double) {
    using T = TestType;
    const T infinite = std::numeric_limits<T>::infinity(),
            nan = std::numeric_limits<T>::quiet_NaN();
    const auto log_of = [](auto x) { return log(x); };
    CHECK(value(log_of, T(0)) == -infinite);
    CHECK(value(log_of, infinite) == infinite);
    CHECK(std::isnan(value(log_of, T(-1))));
    const auto softplus_of = [](auto x) { return softplus(x); };
    CHECK(value(softplus_of, infinite) == infinite);
    CHECK(value(softplus_of, -infinite) == T(0));
    const auto tanh_of = [](auto x) { return tanh(x); };
    CHECK(value(tanh_of, infinite) == T(1));
    CHECK(value(tanh_of, -infinite) == T(-1));
    const auto sigmoid_of = [](auto x) { return sigmoid(x); };
    CHECK(value(sigmoid_of, infinite) == T(1));
    CHECK(value(sigmoid_of, -infinite) == T(0));
    const auto silu_of = [](auto x) { return silu(x); };
    CHECK(value(silu_of, infinite) == infinite);
    for (const T x : {-infinite, std::numeric_limits<T>::lowest(), T(-1e30), T(-1e4), T(-0.0)}) {
        CHECK(value(silu_of, x) == T(0));
        CHECK(std::signbit(value(silu_of, x)));
        if (x < 0) CHECK(value(sigmoid_of, x) == T(0));
    }
    for (const T x : {std::numeric_limits<T>::max(), T(1e30), T(1e4)}) {
        CHECK(value(silu_of, x) == x);
        CHECK(value(sigmoid_of, x) == T(1));
    }
    for (const T x : {std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::min()})
        CHECK(value(silu_of, 4 * x) == 2 * x);
    for (const T x : {nan})
        for (const T y :
             {value(log_of, x), value(softplus_of, x), value(tanh_of, x), value(sigmoid_of, x),
              value(silu_of, x), value([](auto v) { return gelu(v); }, x)})
            CHECK(std::isnan(y));
}

TEMPLATE_TEST_CASE("min and max keep the first where neither is less", "[simd]", float, double) {
    using T = TestType;
    const T nan = std::numeric_limits<T>::quiet_NaN();
    CHECK(std::isnan(value([](auto x) { return min(x, 1); }, nan)));
    CHECK(value([](auto x) { return max(1, x); }, nan) == T(1));
    CHECK(value([](auto x) { return max(x, 1); }, T(2)) == T(2));
}
