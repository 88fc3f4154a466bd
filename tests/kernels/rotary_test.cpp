// Rotary embedding: table against double, same bits however cut, rotation against its reference,
// inverse.
#include "hydralm/kernels/rotary/rotary.hpp"

#include <limits>
#include <vector>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <Index D, class T>
std::vector<T> table_of(std::int64_t first, Index N, double base = 10000) {
    std::vector<T> table(static_cast<std::size_t>(N * D), std::numeric_limits<T>::quiet_NaN());
    kernels::rotary_table<D>(first, base, MatrixView<T>(table.data(), N, D));
    return table;
}

template <Index D, class T>
void sweep(double bound) {
    const double base = 10000;
    for (const Index N : {0, 1, 7, 63, 64, 65, 257})
        for (const Index heads : {1, 3})
            for (const std::int64_t first :
                 {std::int64_t{0}, std::int64_t{250}, std::int64_t{1'000'000'007}}) {
                const Index stride = heads * D + 3;
                Random random(static_cast<std::uint64_t>(N + D));
                std::vector<T> x(static_cast<std::size_t>(N * stride + 1));
                for (T& v : x) v = static_cast<T>(random.normal());
                auto expected = x;
                const auto original = x;
                const auto table = table_of<D, T>(first, N, base);
                const MatrixView<T> view(x.data() + 1, N, heads * D, stride);
                const MatrixView<const T> turns(table.data(), N, D);
                kernels::rotary_apply<D>(view, turns);
                kernels::rotary_reference<T>({expected.data() + 1, N, heads * D, stride}, D, first,
                                             base);
                const std::string where = "D " + std::to_string(D) + " N " + std::to_string(N) +
                                          " first " + std::to_string(first);
                check_close(x, expected, bound + 3e-16 * static_cast<double>(first),
                            where);  // an angle's own rounding
                kernels::rotary_apply_inverse<D>(view, turns);
                check_close(x, original, bound, where + " and back");
            }
}

}  // namespace

TEST_CASE("rotary: a part of a head, sizes read at run time", "[kernels][rotary]") {
    constexpr Index N = 70, heads = 3;
    for (const auto& [D, R] : {std::pair<Index, Index>{16, 4}, {256, 64}, {12, 12}, {8, 2}}) {
        Random random(static_cast<std::uint64_t>(D));
        std::vector<double> x(static_cast<std::size_t>(N * heads * D));
        for (double& v : x) v = random.normal();
        const auto original = x;
        auto expected = x;
        std::vector<double> table(static_cast<std::size_t>(N * R));
        kernels::rotary_table<dynamic>(250, 1e7, MatrixView<double>(table.data(), N, R));
        kernels::rotary_apply<double>(D, {x.data(), N, heads * D}, {table.data(), N, R});
        kernels::rotary_reference<double>({expected.data(), N, heads * D}, D, 250, 1e7, 1, R);
        const auto where = "D " + std::to_string(D) + ", R " + std::to_string(R);
        check_close(x, expected, 1e-12, where);
        kernels::rotary_apply_inverse<double>(D, {x.data(), N, heads * D}, {table.data(), N, R});
        check_close(x, original, 1e-12, where + " and back");
    }
}

TEMPLATE_TEST_CASE("rotary embedding matches its reference and is undone by its inverse",
                   "[rotary]", float, double) {
    const double bound = sizeof(TestType) == 4 ? 3e-7 : 2e-13;
    sweep<4, TestType>(bound);
    sweep<12, TestType>(bound);
    sweep<16, TestType>(bound);
    sweep<32, TestType>(bound);
    sweep<64, TestType>(bound);
    sweep<128, TestType>(bound);
}

TEST_CASE("rotary angles stay accurate far out, and do not depend on where a range begins",
          "[rotary]") {
    constexpr Index D = 64, N = 600;
    for (const std::int64_t first :
         {std::int64_t{0}, std::int64_t{100}, std::int64_t{10'000'019}, std::int64_t{1} << 40}) {
        const auto whole = table_of<D, double>(first, N);
        double worst = 0;
        for (Index n = 0; n < N; ++n)
            for (Index j = 0; j < D / 2; ++j) {
                const double frequency = std::pow(10000.0, -2.0 * static_cast<double>(j) / D);
                const std::int64_t position = first + n, anchor = position / 256 * 256;
                const long double whole_runs = static_cast<double>(anchor) * frequency;
                const long double rest = static_cast<long double>(position - anchor) * frequency;
                const long double c = std::cos(whole_runs), s = std::sin(whole_runs);
                const auto at = static_cast<std::size_t>(n * D + j);
                worst =
                    std::fmax(worst, std::abs(static_cast<double>(
                                         whole[at] - (c * std::cos(rest) - s * std::sin(rest)))));
                worst = std::fmax(
                    worst, std::abs(static_cast<double>(
                               whole[at + D / 2] - (s * std::cos(rest) + c * std::sin(rest)))));
            }
        INFO("first " << first << ", worst " << worst);
        CHECK(worst < 1e-13);
        for (const Index cut : {1, 37, 255, 256, 599}) {
            auto parts = table_of<D, double>(first, cut);
            const auto rest = table_of<D, double>(first + cut, N - cut);
            parts.insert(parts.end(), rest.begin(), rest.end());
            CHECK(parts == whole);
        }
    }
}
