// SwiGLU's element-wise part: fast forms against the reference, gradients against differences.
#include "hydralm/kernels/swiglu/swiglu.hpp"

#include <string>
#include <type_traits>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using test::check_close;
using test::Rows;

TEMPLATE_TEST_CASE("swiglu: fast forms are the reference's", "", float, double) {
    using T = TestType;
    const double bound = std::is_same_v<T, float> ? 1e-6 : 2e-15;
    for (const Index h : {0, 1, 3, 15, 16, 17, 64, 100}) {
        for (const Index rows : {0, 1, 2, 70}) {
            for (const double scale : {1.0, 30.0}) {
                const std::string where =
                    "N " + std::to_string(rows) + " h " + std::to_string(h) + " seed 1";
                const Rows<T> x(rows, 2 * h, 1, scale), dy(rows, h, 2);
                Rows<T> y(rows, h), expected(rows, h), dx(rows, 2 * h), dx_expected(rows, 2 * h);
                kernels::swiglu(x.view(), y.view());
                kernels::reference::swiglu(x.view(), expected.view());
                check_close(y.values(), expected.values(), bound, where);
                kernels::swiglu_backward(x.view(), dy.view(), dx.view());
                kernels::reference::swiglu_backward(x.view(), dy.view(), dx_expected.view());
                check_close(dx.values(), dx_expected.values(), 2 * bound, where);
                CHECK(y.padding_untouched());
                CHECK(dx.padding_untouched());

                for (const Index half : {Index{0}, h}) {
                    Rows<T> in_place = x;
                    kernels::swiglu(in_place.view(), in_place.view().middle_cols(half, h));
                    for (Index n = 0; n < rows; ++n)
                        for (Index i = 0; i < h; ++i)
                            CHECK(in_place.view()(n, half + i) == y.view()(n, i));
                }
                Rows<T> over = x;
                kernels::swiglu_backward(over.view(), dy.view(), over.view());
                CHECK(over.values() == dx.values());
            }
        }
    }
}

TEST_CASE("swiglu: a row alone has the same bits; extreme gates stay finite") {
    Rows<float> x(40, 2 * 96, 3, 2.0);
    x.view()(7, 0) = 1e4F;
    x.view()(7, 1) = -1e4F;
    Rows<float> all(40, 96), one(1, 96);
    const int threads = num_threads();
    set_num_threads(3);
    kernels::swiglu(x.view(), all.view());
    set_num_threads(threads);
    kernels::swiglu(x.view().middle_rows(7, 1), one.view());
    CHECK(std::equal(one.row(0).begin(), one.row(0).end(), all.row(7).begin()));
    CHECK(one.view()(0, 0) == 1e4F * x.view()(7, 96));
    CHECK(one.view()(0, 1) == 0.0F);
}

TEST_CASE("swiglu_backward: reference against central differences") {
    const Index h = 5;
    Rows<double> x(1, 2 * h, 1), y(1, h), dx(1, 2 * h);
    const Rows<double> dy(1, h, 2);
    kernels::reference::swiglu_backward(x.view(), dy.view(), dx.view());
    const auto loss = [&] {
        kernels::reference::swiglu(x.view(), y.view());
        return test::inner_product(y, dy);
    };
    for (Index i = 0; i < 2 * h; ++i)
        CHECK(test::central_difference(loss, x.view()(0, i)) ==
              Approx(dx.view()(0, i)).epsilon(1e-7));
}
