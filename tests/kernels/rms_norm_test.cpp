// RMS normalisation and unit-length heads: fast forms against the reference, gradients against
// differences.
#include "hydralm/kernels/rms_norm/rms_norm.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using test::check_close;
using test::Rows;

namespace {

template <class T>
constexpr double bound = std::is_same_v<T, float> ? 2e-6 : 4e-15;

}  // namespace

TEMPLATE_TEST_CASE("rms_norm: fast form is the reference's", "", float, double) {
    using T = TestType;
    for (const Index d : {1, 3, 4, 15, 16, 17, 63, 64, 65, 100, 768}) {
        for (const Index rows : {0, 1, 63, 64, 65, 197}) {
            const std::string where =
                "N " + std::to_string(rows) + " d " + std::to_string(d) + " seed 1";
            const Rows<T> x(rows, d, 1), w(1, d, 2);
            Rows<T> fast(rows, d), expected(rows, d);
            kernels::rms_norm(x.view(), w.row(0), 1e-5, fast.view());
            kernels::reference::rms_norm(x.view(), w.row(0), 1e-5, expected.view());
            check_close(fast.values(), expected.values(), bound<T>, where);
            CHECK(fast.padding_untouched());

            Rows<T> in_place = x;
            kernels::rms_norm(in_place.view(), w.row(0), 1e-5, in_place.view());
            CHECK(in_place.values() == fast.values());
        }
    }
}

TEMPLATE_TEST_CASE("rms_norm: static width, a row alone and many threads give the same bits", "",
                   float, double) {
    using T = TestType;
    const Rows<T> x(300, 192, 3), w(1, 192, 4);
    Rows<T> all(300, 192), again(300, 192);
    kernels::rms_norm(x.view(), w.row(0), 1e-5, all.view());
    const int threads = num_threads();
    set_num_threads(3);
    const MatrixView<T, 192> fixed(again.view().data(), 300, 192, again.view().stride());
    kernels::rms_norm(x.view(), w.row(0), 1e-5, fixed);
    set_num_threads(threads);
    CHECK(all.values() == again.values());
    Rows<T> one(1, 192);
    for (const Index n : {0, 7, 299}) {
        kernels::rms_norm(x.view().middle_rows(n, 1), w.row(0), 1e-5, one.view());
        CHECK(std::equal(one.row(0).begin(), one.row(0).end(), all.row(n).begin()));
    }
}

TEST_CASE("rms_norm: extreme rows") {
    const std::vector<float> w(8, 1.0F);
    Rows<float> zero(1, 8, 5), y(1, 8);
    for (float& v : zero.row(0)) v = 0.0F;
    kernels::rms_norm(zero.view(), w, 1e-5, y.view());
    for (const float v : y.row(0)) CHECK(v == 0.0F);
    for (float& v : zero.row(0)) v = 1e18F;
    kernels::rms_norm(zero.view(), w, 1e-5, y.view());
    for (const float v : y.row(0)) CHECK(v == Approx(1.0F));
}

TEMPLATE_TEST_CASE("rms_norm_backward: fast form is the reference's", "", float, double) {
    using T = TestType;
    const double eps = 0.1;  // a small one leaves a row of one element nothing but rounding
    for (const Index d : {1, 4, 17, 64, 100}) {
        for (const Index rows : {0, 1, 63, 64, 65, 197}) {
            const std::string where =
                "N " + std::to_string(rows) + " d " + std::to_string(d) + " seed 6";
            const Rows<T> x(rows, d, 6), w(1, d, 7), dy(rows, d, 8), passed(rows, d, 9);
            Rows<T> dx(rows, d), expected(rows, d), dw(1, d, 10), dw_expected(1, d, 10);
            AlignedBuffer<std::byte> bytes(kernels::rms_norm_backward_workspace_bytes<T>(rows, d));
            Arena arena(bytes.span());
            kernels::rms_norm_backward(x.view(), w.row(0), eps, dy.view(), dx.view(), dw.row(0),
                                       arena);
            kernels::reference::rms_norm_backward(x.view(), w.row(0), eps, dy.view(),
                                                  expected.view(), dw_expected.row(0));
            check_close(dx.values(), expected.values(), 4 * bound<T>, where);
            check_close(dw.values(), dw_expected.values(), 8 * bound<T>, where);
            CHECK(arena.used() == 0);
            CHECK(dx.padding_untouched());

            Rows<T> sum = passed, over = dy, ignored(1, d, 10);
            kernels::rms_norm_backward(x.view(), w.row(0), eps, dy.view(), sum.view(),
                                       ignored.row(0), arena, sum.view());
            kernels::rms_norm_backward(x.view(), w.row(0), eps, over.view(), over.view(),
                                       ignored.row(0), arena);
            CHECK(over.values() == dx.values());
            for (Index n = 0; n < rows; ++n)
                for (Index i = 0; i < d; ++i)
                    CHECK(sum.view()(n, i) == passed.view()(n, i) + dx.view()(n, i));
        }
    }
}

// Where r³ alone is too small or too large for float, the gradient is not.
TEST_CASE("rms_norm_backward: rows of any size have their gradient") {
    const Index d = 17;
    AlignedBuffer<std::byte> bytes(kernels::rms_norm_backward_workspace_bytes<float>(1, d));
    for (const float size : {1e-16F, 1e-14F, 1e14F, 1e16F}) {
        Rows<float> x(1, d, 1), dx(1, d), dx_float(1, d), dw(1, d, 4), dw_float(1, d, 4);
        const Rows<float> w(1, d, 2), dy(1, d, 3);
        Rows<double> x_wide(1, d), w_wide(1, d), dy_wide(1, d), expected(1, d), dw_wide(1, d, 4);
        for (Index i = 0; i < d; ++i) {
            x.view()(0, i) *= size;
            x_wide.view()(0, i) = x.view()(0, i);
            w_wide.view()(0, i) = w.view()(0, i);
            dy_wide.view()(0, i) = dy.view()(0, i);
        }
        Arena arena(bytes.span());
        kernels::rms_norm_backward(x.view(), w.row(0), 1e-37, dy.view(), dx.view(), dw.row(0),
                                   arena);
        kernels::reference::rms_norm_backward(x.view(), w.row(0), 1e-37, dy.view(), dx_float.view(),
                                              dw_float.row(0));
        kernels::reference::rms_norm_backward(x_wide.view(), w_wide.row(0), 1e-37, dy_wide.view(),
                                              expected.view(), dw_wide.row(0));
        for (Index i = 0; i < d; ++i) {  // all of the size of dy
            expected.view()(0, i) *= size;
            dx.view()(0, i) *= size;
            dx_float.view()(0, i) *= size;
        }
        const std::string where = "size " + std::to_string(size);
        check_close(dx.values(), expected.values(), 4 * bound<float>, where);
        check_close(dx_float.values(), expected.values(), 4 * bound<float>, where);
    }
}

TEST_CASE("rms_norm_backward: the same bits for any number of threads") {
    const Rows<float> x(500, 96, 1), w(1, 96, 2), dy(500, 96, 3);
    AlignedBuffer<std::byte> bytes(kernels::rms_norm_backward_workspace_bytes<float>(500, 96));
    const int threads = num_threads();
    std::vector<std::vector<float>> results;
    for (const int n : {1, 2, 5}) {
        set_num_threads(n);
        Arena arena(bytes.span());
        Rows<float> dx(500, 96), dw(1, 96, 4);
        kernels::rms_norm_backward(x.view(), w.row(0), 1e-5, dy.view(), dx.view(), dw.row(0),
                                   arena);
        auto all = dx.values();
        for (const float v : dw.row(0)) all.push_back(v);
        results.push_back(all);
    }
    set_num_threads(threads);
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
}

TEST_CASE("rms_norm_backward: reference against central differences") {
    const Index d = 6;
    Rows<double> x(2, d, 1), w(1, d, 2), y(2, d), dx(2, d), dw(1, d, 3);
    const Rows<double> dy(2, d, 4);
    for (double& v : dw.row(0)) v = 0.0;
    kernels::reference::rms_norm_backward(x.view(), w.row(0), 0.3, dy.view(), dx.view(), dw.row(0));
    const auto loss = [&] {
        kernels::reference::rms_norm(x.view(), w.row(0), 0.3, y.view());
        return test::inner_product(y, dy);
    };
    for (Index i = 0; i < d; ++i) {
        CHECK(test::central_difference(loss, x.view()(1, i)) ==
              Approx(dx.view()(1, i)).epsilon(1e-7));
        CHECK(test::central_difference(loss, w.view()(0, i)) ==
              Approx(dw.view()(0, i)).epsilon(1e-7));
    }
}

namespace {

template <class T, Index D>
void check_l2(Index rows, Index heads) {
    const std::string where = "N " + std::to_string(rows) + " H " + std::to_string(heads) + " D " +
                              std::to_string(D) + " seed 1";
    Rows<T> fast(rows, heads * D, 1), norms(rows, heads), expected_norms(rows, heads);
    if (rows > 0)
        for (Index i = 0; i < D; ++i) fast.view()(0, i) = i == 0 ? T(1e-13) : T(0);  // clamped
    Rows<T> expected = fast;
    Rows<T> silent = fast;
    kernels::l2_normalize<D>(fast.view(), norms.view());
    kernels::l2_normalize<D>(silent.view());
    kernels::reference::l2_normalize(D, expected.view(), expected_norms.view());
    check_close(fast.values(), expected.values(), bound<T>, where);
    check_close(norms.values(), expected_norms.values(), bound<T>, where);
    CHECK(fast.values() == silent.values());
    CHECK(fast.padding_untouched());

    const Rows<T> dy(rows, heads * D, 2);
    Rows<T> dx(rows, heads * D), dx_expected(rows, heads * D), over = dy;
    kernels::l2_normalize_backward<D>(fast.view(), norms.view(), dy.view(), dx.view());
    kernels::reference::l2_normalize_backward(D, fast.view(), norms.view(), dy.view(),
                                              dx_expected.view());
    kernels::l2_normalize_backward<D>(fast.view(), norms.view(), over.view(), over.view());
    CHECK(over.values() == dx.values());
    if (rows > 0) {  // the clamped slice is of another size
        check_close(dx.row(0).first(D), dx_expected.row(0).first(D), 2 * bound<T>, where);
        for (Index i = 0; i < D; ++i) dx.view()(0, i) = dx_expected.view()(0, i) = T(0);
    }
    check_close(dx.values(), dx_expected.values(), 4 * bound<T>, where);
}

}  // namespace

TEMPLATE_TEST_CASE("l2_normalize: fast forms are the reference's", "", float, double) {
    for (const Index rows : {0, 1, 2, 197}) {
        for (const Index heads : {1, 3}) {
            check_l2<TestType, 4>(rows, heads);
            check_l2<TestType, 12>(rows, heads);
            check_l2<TestType, 20>(rows, heads);
            check_l2<TestType, 32>(rows, heads);
            check_l2<TestType, 64>(rows, heads);
            check_l2<TestType, 100>(rows, heads);
            check_l2<TestType, 128>(rows, heads);
        }
    }
}

TEMPLATE_TEST_CASE("l2_scale: fast form is the reference's", "", float, double) {
    using T = TestType;
    for (const Index D : {1, 8, 12, 17, 128})
        for (const double eps : {1e-6, 0.5}) {
            Rows<T> fast(5, 3 * D, 7), expected = fast;
            const Rows<T> x = fast;
            Rows<T> factors(5, 3);
            kernels::l2_scale<T>(D, fast.view(), eps, 0.25, factors.view());
            kernels::reference::l2_scale<T>(D, expected.view(), eps, 0.25);
            const std::string where = "D " + std::to_string(D);
            check_close(fast.values(), expected.values(), bound<T>, where);
            CHECK(fast.padding_untouched());
            for (Index n = 0; n < 5; ++n)
                for (Index h = 0; h < 3; ++h)
                    CHECK(factors.view()(n, h) * x.view()(n, h * D) ==
                          Approx(fast.view()(n, h * D)).epsilon(1e-6));

            // Of one element the gradient is what s² / (s² + eps) lacks to 1: with a small eps
            // nothing is left of it but rounding.
            if (D == 1 && eps < 0.1) continue;
            Rows<T> dx(5, 3 * D, 8), dx_expected(5, 3 * D);
            kernels::reference::l2_scale_backward<T>(D, fast.view(), factors.view(), 0.25,
                                                     dx.view(), dx_expected.view());
            kernels::l2_scale_backward<T>(D, fast.view(), factors.view(), 0.25, dx.view(),
                                          dx.view());
            check_close(dx.values(), dx_expected.values(), 4 * bound<T>, where);
            CHECK(dx.padding_untouched());
        }
}

TEST_CASE("l2_scale_backward: reference against central differences") {
    Rows<double> x(1, 8, 1), dx(1, 8), factors(1, 2);
    const Rows<double> dy(1, 8, 2);
    Rows<double> y = x;
    const auto loss = [&] {
        y = x;
        kernels::l2_scale<double>(4, y.view(), 0.1, 0.5, factors.view());
        return inner_product(y, dy);
    };
    loss();
    const Rows<double> scaled = y, by = factors;
    kernels::reference::l2_scale_backward<double>(4, scaled.view(), by.view(), 0.5, dy.view(),
                                                  dx.view());
    for (Index i = 0; i < 8; ++i)
        CHECK(dx.view()(0, i) ==
              Approx(test::central_difference(loss, x.view()(0, i))).margin(1e-9));
}

TEST_CASE("l2_normalize: zeros stay zeros, and their gradient is the clamp's") {
    Rows<double> x(1, 4, 1), norms(1, 1), dx(1, 4);
    const Rows<double> dy(1, 4, 2);
    for (double& v : x.row(0)) v = 0.0;
    kernels::l2_normalize<4>(x.view(), norms.view());
    CHECK(norms.view()(0, 0) == 1e-12);
    kernels::l2_normalize_backward<4>(x.view(), norms.view(), dy.view(), dx.view());
    for (Index i = 0; i < 4; ++i) {
        CHECK(x.view()(0, i) == 0.0);
        CHECK(dx.view()(0, i) == Approx(dy.view()(0, i) / 1e-12));
    }
}

TEST_CASE("l2_normalize_backward: reference against central differences") {
    Rows<double> x(1, 8, 1), dx(1, 8), norms(1, 2);
    const Rows<double> dy(1, 8, 2);
    Rows<double> y = x;
    const auto loss = [&] {
        y = x;
        kernels::reference::l2_normalize(4, y.view(), norms.view());
        return test::inner_product(y, dy);
    };
    loss();
    kernels::reference::l2_normalize_backward(4, y.view(), norms.view(), dy.view(), dx.view());
    for (Index i = 0; i < 8; ++i)
        CHECK(test::central_difference(loss, x.view()(0, i)) ==
              Approx(dx.view()(0, i)).epsilon(1e-7));
}
