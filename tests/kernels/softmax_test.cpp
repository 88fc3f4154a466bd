// Softmax and the streamed logarithm of a sum of exponentials.
#include "hydralm/kernels/softmax/softmax.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using test::check_close;
using test::Rows;

namespace {
template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
}

TEMPLATE_TEST_CASE("softmax: fast forms are the reference's", "", float, double) {
    using T = TestType;
    const double bound = std::is_same_v<T, float> ? 3e-6 : 6e-15;
    for (const Index width : {1, 3, 15, 16, 17, 256, 511, 512, 513, 1541, 5000}) {
        for (const Index rows : {0, 1, 5}) {
            for (const double scale : {1.0, 40.0}) {
                const std::string where =
                    "N " + std::to_string(rows) + " V " + std::to_string(width) + " seed 1";
                const Rows<T> x(rows, width, 1, scale), dy(rows, width, 2);
                Rows<T> y(rows, width), expected(rows, width), in_place = x;
                kernels::softmax(x.view(), y.view());
                kernels::reference::softmax(x.view(), expected.view());
                check_close(y.values(), expected.values(), bound, where);
                CHECK(y.padding_untouched());
                kernels::softmax(in_place.view(), in_place.view());
                CHECK(in_place.values() == y.values());

                Rows<T> dx(rows, width), dx_expected(rows, width), over = dy;
                kernels::softmax_backward(y.view(), dy.view(), dx.view());
                kernels::reference::softmax_backward(y.view(), dy.view(), dx_expected.view());
                for (Index n = 0; n < rows;
                     ++n)  // relative to dy: near a certain outcome dx is all cancellation
                    for (Index i = 0; i < width; ++i)
                        CHECK(std::abs(dx.view()(n, i) - dx_expected.view()(n, i)) <= T(4 * bound));
                kernels::softmax_backward(y.view(), over.view(), over.view());
                CHECK(over.values() == dx.values());
            }
        }
    }
}

TEST_CASE("softmax: a row alone and many threads give the same bits") {
    const Rows<float> x(50, 1000, 3, 5.0);
    Rows<float> all(50, 1000), one(1, 1000);
    const int threads = num_threads();
    set_num_threads(3);
    kernels::softmax(x.view(), all.view());
    set_num_threads(threads);
    kernels::softmax(x.view().middle_rows(31, 1), one.view());
    CHECK(std::equal(one.row(0).begin(), one.row(0).end(), all.row(31).begin()));
}

TEMPLATE_TEST_CASE("softmax: infinities and NaN", "", float, double) {
    using T = TestType;
    Rows<T> x(1, 1200, 4), y(1, 1200);
    for (Index i = 0; i < 1100; ++i) x.view()(0, i) = -infinity<T>;
    kernels::softmax(x.view(), y.view());
    CHECK(y.view()(0, 5) == T(0));
    T sum = 0;
    for (const T p : y.row(0)) sum += p;
    CHECK(sum == Approx(1.0).epsilon(1e-5));

    for (const Index at : {0, 600, 1199}) {
        Rows<T> bad = x;
        bad.view()(0, at) = std::numeric_limits<T>::quiet_NaN();
        kernels::softmax(bad.view(), y.view());
        CHECK(std::isnan(y.view()(0, 1150)));
    }
    for (T& v : x.row(0)) v = -infinity<T>;
    kernels::softmax(x.view(), y.view());
    CHECK(std::isnan(y.view()(0, 0)));
}

TEMPLATE_TEST_CASE("log_sum_exp: in pieces, of nothing, of large values", "", float, double) {
    using T = TestType;
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const Rows<T> x(1, 3001, 5, 10.0);
    long double sum = 0;
    for (const T v : x.row(0)) sum += std::exp(static_cast<long double>(v));
    const double expected = static_cast<double>(std::log(sum));
    CHECK(std::abs(kernels::log_sum_exp<T>(x.row(0)) - expected) < 16 * epsilon);
    kernels::LogSumExp<T> pieces;
    CHECK(pieces.value() == -std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < 3001; i += 7)
        pieces.add(x.row(0).subspan(i, std::min<std::size_t>(7, 3001 - i)));
    CHECK(std::abs(pieces.value() - expected) < 16 * epsilon);

    kernels::LogSumExp<T> all, with_terms;
    all.add(x.row(0));
    Rows<T> terms(1, 3001), in_place = x;
    with_terms.add(x.row(0), terms.row(0).data());
    CHECK(with_terms.value() == all.value());
    CHECK(terms.padding_untouched());
    with_terms = {};
    with_terms.add(in_place.row(0), in_place.row(0).data());
    CHECK(in_place.values() == terms.values());

    // The terms of a piece are about the largest value so far, earlier pieces' included.
    for (const T first : {T(50), T(-50)}) {
        kernels::LogSumExp<T> total;
        total.add(std::span<const T>(&first, 1));
        total.add(x.row(0), terms.row(0).data());
        const T shift = first > T(0) ? first : all.largest();
        CHECK(total.shift() == shift);
        for (std::size_t i = 0; i < 3001; ++i)
            CHECK(terms.row(0)[i] == Approx(std::exp(x.row(0)[i] - shift))
                                         .epsilon(8 * epsilon)
                                         .margin(4 * std::numeric_limits<T>::min()));
        const auto f = static_cast<double>(first);
        CHECK(total.value() ==
              Approx(expected + std::log1p(std::exp(f - expected))).epsilon(8 * epsilon));
    }

    const std::vector<T> large(1 << 16, T(30000));
    CHECK(std::abs(kernels::log_sum_exp<T>(large) - (30000 + 16 * std::log(2.0))) < 16 * epsilon);
}

// 1 and many equal small terms: each addition may round the same way.
TEMPLATE_TEST_CASE("log_sum_exp and softmax: the worst of roundings, rows of any length", "", float,
                   double) {
    using T = TestType;
    const auto epsilon = static_cast<long double>(std::numeric_limits<T>::epsilon());
    hydralm::Random random(9);
    long double worst = 0, worst_softmax = 0;
    for (int round = 0; round < 1000; ++round)
        for (const Index width : {40, 512, 3000, 40000}) {
            if (width == 40000 && round >= 20) continue;
            const T value = static_cast<T>(-random.uniform(0, 14));
            Rows<T> x(1, width, 1), y(1, width);
            for (T& v : x.row(0)) v = value;
            x.view()(0, 0) = T(0);
            const long double sum = 1 + (width - 1) * std::exp(static_cast<long double>(value));
            kernels::LogSumExp<T> total;
            total.add(x.row(0));
            worst = std::max(worst,
                             std::abs(static_cast<long double>(total.sum()) / sum - 1) / epsilon);
            kernels::softmax(x.view(), y.view());
            const long double p = y.view()(0, 0);
            worst_softmax = std::max(worst_softmax, std::abs(p * sum - 1) / epsilon);
        }
    INFO("sum " << worst << " probability " << worst_softmax << " epsilon");
    CHECK(worst < 16);
    CHECK(worst_softmax < 12);  // 24 units in the last place of any probability
}

TEST_CASE("softmax_backward: reference against central differences") {
    Rows<double> x(1, 6, 1), y(1, 6), dx(1, 6);
    const Rows<double> dy(1, 6, 2);
    const auto loss = [&] {
        kernels::reference::softmax(x.view(), y.view());
        return test::inner_product(y, dy);
    };
    loss();
    kernels::reference::softmax_backward(y.view(), dy.view(), dx.view());
    for (Index i = 0; i < 6; ++i)
        CHECK(test::central_difference(loss, x.view()(0, i)) ==
              Approx(dx.view()(0, i)).epsilon(1e-7));
}
