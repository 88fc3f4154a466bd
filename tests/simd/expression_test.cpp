// Expressions against plain loops: every length, misaligned, in place, nothing written beside;
// every kind of operand; sizes and overlap.
#include "hydralm/simd/expression.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "support/catch.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using hydralm::test::Rows;
namespace simd = hydralm::simd;

namespace {

// Kernels cannot throw: what they write needs no check.
void gated(Index n, float* y, const float* g, const float* u) noexcept {
    static_assert(noexcept(out(n, y) = silu(in(g)) * in(u)));
    static_assert(!noexcept(out(n, y) = view(g, n)));
    out(n, y) = silu(in(g)) * in(u);
}

}  // namespace

TEMPLATE_TEST_CASE("out: rows of any length and place", "[simd]", float, double) {
    using T = TestType;
    for (Index n = 0; n <= 5 * simd::lanes<T> + 3; ++n) {
        const Rows<T> a(2, n, 1), b(2, n, 2);
        Rows<T> y(2, n), again(2, n), in_place = a;
        for (const Index row : {0, 1}) {
            out(y.row(row)) = a.row(row) * view(b.row(row)) - 3 * view(a.row(row)) + 0.5F;
            for (Index i = 0; i < n; ++i) {
                const T p = a.view()(row, i), q = b.view()(row, i);
                CHECK(y.view()(row, i) ==
                      Approx(p * q - 3 * p + T(0.5)).epsilon(1e-5).margin(1e-5));
            }
            const auto same = view(in_place.row(row));
            out(same) = same * view(b.row(row)) - 3 * same + 0.5F;
        }
        // The bits of an element do not depend on its place, nor on where it is written.
        CHECK(in_place.values() == y.values());
        CHECK(y.padding_untouched());
        for (Index i = 0; i < n; ++i) {
            const auto p = view(a.view().row(0) + i, 1);
            out(view(again.view().row(0) + i, 1)) = p * view(b.view().row(0) + i, 1) - 3 * p + 0.5F;
            CHECK(again.view()(0, i) == y.view()(0, i));
        }
        // A matrix is its rows.
        out(again.view()) = a.view() * b.view() - 3 * a.view() + 0.5F;
        CHECK(again.values() == y.values());
        CHECK(again.padding_untouched());
        out(again.view()) = in(a.view()) * in(b.view()) - 3 * in(a.view()) + 0.5F;
        CHECK(again.values() == y.values());
    }
}

TEST_CASE("out: rows and columns are read all over a matrix; scalars are of any type") {
    const Rows<float> x(3, 13, 1), w(1, 13, 2), c(1, 3, 3);
    Rows<float> y(3, 13);
    out(y.view()) = x.view() * w.row(0) + column(view(c.row(0))) * 2 - 1L;
    for (Index n = 0; n < 3; ++n)
        for (Index i = 0; i < 13; ++i)
            CHECK(y.view()(n, i) ==
                  Approx(x.view()(n, i) * w.view()(0, i) + c.view()(0, n) * 2 - 1).margin(1e-6));
    out(y.view()) = 7U;
    CHECK(y.values() == std::vector<float>(39, 7.0F));
    const MatrixView<float, 13> fixed(y.view().data(), 3, 13, y.view().stride());
    out(fixed) = w.row(0);
    for (Index n = 0; n < 3; ++n) CHECK(y.view()(n, 12) == w.view()(0, 12));
    CHECK(y.padding_untouched());
}

TEST_CASE("out: +=, -=, *= and /= read what they write") {
    std::vector<double> y{1, 2, 3, 4, 5}, x{5, 4, 3, 2, 1};
    out(view(y)) += 2 * view(x);
    CHECK(y == std::vector<double>{11, 10, 9, 8, 7});
    out(view(y)) -= view(x);
    CHECK(y == std::vector<double>{6, 6, 6, 6, 6});
    out(view(y)) *= view(x);
    CHECK(y == std::vector<double>{30, 24, 18, 12, 6});
    out(view(y)) /= view(x);
    CHECK(y == std::vector<double>{6, 6, 6, 6, 6});
    const MatrixView<double> matrix(y.data(), 1, 5);
    out(matrix) -= 1;
    CHECK(y == std::vector<double>{5, 5, 5, 5, 5});
    out(StridedSpan<double>(y.data(), 3, 2)) *= 2;
    CHECK(y == std::vector<double>{10, 5, 10, 5, 10});
}

TEST_CASE("out: several outputs are computed from what was there before") {
    const Index n = 21;
    const Rows<float> g(1, n, 1);
    Rows<float> m(1, n, 2), v(1, n, 3);
    const Rows<float> old_m = m, old_v = v;
    const auto next_m = 0.5 * view(m.row(0)) + view(g.row(0));
    out(m.row(0), v.row(0)) = values(next_m, view(v.row(0)) - next_m * view(m.row(0)));
    for (Index i = 0; i < n; ++i) {
        const float a = old_m.view()(0, i), b = 0.5F * a + g.view()(0, i);
        CHECK(m.view()(0, i) == Approx(b).margin(1e-6));
        CHECK(v.view()(0, i) == Approx(old_v.view()(0, i) - b * a).margin(1e-6));
    }
    Rows<float> both(4, n, 4), other = both;
    const Rows<float> old = both;
    out(both.view(), other.view()) = values(other.view() + 1, both.view() * 2);
    for (Index i = 0; i < n; ++i) {
        CHECK(both.view()(3, i) == old.view()(3, i) + 1);
        CHECK(other.view()(3, i) == old.view()(3, i) * 2);
    }
}

TEST_CASE("view: Eigen's maps, Refs, blocks and vectors") {
    Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> a(4, 6), y(4, 6);
    for (Index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>(i);
    const Eigen::VectorXf bias = Eigen::VectorXf::LinSpaced(6, 0, 5);
    out(view(y)) = 2 * view(a) + view(bias);
    CHECK(y == ((2 * a).rowwise() + bias.transpose()));

    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const auto negate = [](Eigen::Ref<RowMajor, 0, Eigen::OuterStride<>> x) {
        out(view(x)) = -view(x);
    };
    negate(y.middleCols(1, 3));
    CHECK(y(2, 0) == 2 * a(2, 0));
    CHECK(y(2, 3) == -(2 * a(2, 3) + 3));
    out(view(y.row(1))) = view(a.row(2));
    CHECK(y.row(1) == a.row(2));

    Eigen::Map<Eigen::Matrix<float, 4, 6, Eigen::RowMajor>> map(y.data());
    static_assert(std::is_same_v<decltype(view(map)), MatrixView<float, 6>>);
    static_assert(std::is_same_v<decltype(view(bias)), RowView<const float>>);
    CHECK(sum(view(map.row(1))) == a.row(2).sum());
}

TEST_CASE("select, min, max, abs and map") {
    const std::vector<float> a{-2, -1, 0, 1, 2, 3, -4, 5, -6}, b{1, 1, 1, 1, 1, 1, 1, 1, 1};
    std::vector<float> y(a.size());
    const auto x = view(a), one = view(b);
    out(view(y)) = select(x > one, x, -2 * one);
    CHECK(y == std::vector<float>{-2, -2, -2, -2, 2, 3, -2, 5, -2});
    out(view(y)) = select(x <= 0, 0, select(x >= 3, 3, x));
    CHECK(y == std::vector<float>{0, 0, 0, 1, 2, 3, 0, 3, 0});
    out(view(y)) = min(max(x, -1), 2) + abs(x) - abs(x);
    CHECK(y == std::vector<float>{-1, -1, 0, 1, 2, 2, -1, 2, -1});
    out(view(y)) = fma(x, one, 1) - square(x) / x + select(x < 0, one, one);
    CHECK(y[0] == 2.0F);
    out(view(y)) = map([](auto p, auto q) { return p * q + q; }, x, one);
    CHECK(y == std::vector<float>{-1, 0, 1, 2, 3, 4, -3, 6, -5});
}

TEST_CASE("out: kernels give pointers") {
    const Rows<float> g(1, 37, 1), u(1, 37, 2);
    Rows<float> y(1, 37), again(1, 37);
    gated(37, y.view().row(0), g.view().row(0), u.view().row(0));
    out(again.row(0)) = silu(g.row(0)) * u.row(0);
    CHECK(y.values() == again.values());
    out<4>(y.view().row(0)) = 1;
    CHECK(y.view()(0, 3) == 1.0F);
    CHECK(y.view()(0, 4) == again.view()(0, 4));
}

TEST_CASE("out: sizes that differ are named, both, and nothing is written") {
    Rows<float> y(3, 5, 1);
    const Rows<float> before = y, x(3, 4, 2), tall(4, 5, 3);
    const auto fails = [](const auto& action, const std::string& expected,
                          const std::string& found) {
        CHECK_THROWS_WITH(action(), Catch::Contains("output's shape, " + expected +
                                                    ", found an "
                                                    "operand of " +
                                                    found));
    };
    fails([&] { out(y.view()) = x.view() * 2; }, "[3, 5]", "[3, 4]");
    fails([&] { out(y.view()) += tall.view(); }, "[3, 5]", "[4, 5]");
    fails([&] { out(y.view()) = x.row(0); }, "[3, 5]", "[4]");
    fails([&] { out(y.view()) = column(x.row(0)); }, "[3, 5]", "[4] for its rows");
    fails([&] { out(y.row(0)) = x.row(0); }, "[5]", "[4]");
    fails([&] { out(y.row(0)).assign_and_sum(x.row(0) * 2); }, "[5]", "[4]");
    Rows<float> short_row(1, 4);
    fails([&] { out(y.row(0), short_row.row(0)) = values(0, 0); }, "[5]", "[4]");
    CHECK(y.values() == before.values());
}

TEST_CASE("out: an operand over other elements of the output is refused") {
    std::vector<float> data(64);
    const auto refused = Catch::Contains("over other elements of the output");
    const auto shifted = view(data.data() + 1, 20), row = view(data.data(), 20);
    CHECK_THROWS_WITH(out(row) = shifted, refused);
    const MatrixView<float> matrix(data.data(), 4, 5, 16);
    CHECK_THROWS_WITH(out(matrix) = matrix * view(data.data(), 5), refused);
    CHECK_THROWS_WITH(out(matrix) = MatrixView<float>(data.data() + 3, 4, 5, 16), refused);
    CHECK_THROWS_WITH(out(matrix) = MatrixView<float>(data.data(), 4, 5, 5), refused);
    CHECK_THROWS_WITH(out(matrix) = column(view(data.data(), 4)), refused);
    // At its own place, or in other columns of the same rows.
    CHECK_NOTHROW(out(matrix) = matrix * 2 + MatrixView<float>(data.data() + 5, 4, 5, 16));
    CHECK_NOTHROW(out(MatrixView<float>(data.data() + 5, 4, 5, 16)) = matrix);
    CHECK_NOTHROW(out(matrix) = column(StridedSpan<float>(data.data() + 9, 4, 16)));
    CHECK_NOTHROW(out(matrix) = view(data.data() + 6, 5));
    CHECK_NOTHROW(out(row) = view(data.data() + 20, 20));
    // Of no rows there is nothing to disturb.
    CHECK_NOTHROW(out(MatrixView<float>(data.data() + 4, 0, 4)) = view(data.data(), 4));
    CHECK_NOTHROW(out(MatrixView<float>(data.data() + 4, 0, 4, 16)) =
                      MatrixView<float>(data.data(), 0, 4, 16));
    // Backwards, from either side of the output; outputs over each other.
    CHECK_THROWS_WITH(out(row) = StridedSpan<float>(data.data() + 29, 20, -1), refused);
    CHECK_THROWS_WITH(out(row) = StridedSpan<float>(data.data() + 19, 20, -1), refused);
    CHECK_NOTHROW(out(row) = StridedSpan<float>(data.data() + 39, 20, -1) * 0.5);
    CHECK_THROWS_WITH(out(row, shifted) = values(0, 1), refused);
    CHECK_THROWS_WITH(out(view(data.data() + 40, 20), row, shifted) = values(0, 1, 2), refused);
    CHECK(data == std::vector<float>(64));
}
