// Cross-entropy: losses and gradients against the reference, ignored labels, extreme logits.
#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"

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

// Every third label ignored.
std::vector<token_id> some_labels(Index rows, Index vocab, std::uint64_t seed) {
    Random random(seed);
    std::vector<token_id> labels;
    for (Index n = 0; n < rows; ++n)
        labels.push_back(
            n % 3 == 1 ? kernels::ignore_index
                       : static_cast<token_id>(random.below(static_cast<std::uint64_t>(vocab))));
    return labels;
}

}  // namespace

TEMPLATE_TEST_CASE("cross_entropy: fast forms are the reference's", "", float, double) {
    using T = TestType;
    const double bound = std::is_same_v<T, float> ? 2e-6 : 4e-15;
    for (const Index vocab : {1, 3, 17, 256, 513, 1541}) {
        for (const Index rows : {0, 1, 2, 40}) {
            for (const double size : {1.0, 30.0}) {
                const std::string where =
                    "N " + std::to_string(rows) + " V " + std::to_string(vocab) + " seed 1";
                const auto labels = some_labels(rows, vocab, 2);
                const Rows<T> logits(rows, vocab, 1, size);
                Rows<double> exact(rows, vocab);
                for (Index n = 0; n < rows; ++n)
                    std::copy(logits.row(n).begin(), logits.row(n).end(), exact.row(n).begin());
                const double unset = std::numeric_limits<double>::quiet_NaN();
                std::vector<double> losses(labels.size(), unset), again = losses, expected = losses;
                const auto total = kernels::cross_entropy(logits.view(), labels, losses);
                kernels::reference::cross_entropy<double>(exact.view(), labels, expected);
                double sum = 0.0;
                for (std::size_t n = 0; n < labels.size(); ++n) {
                    INFO(where << " row " << n);
                    CHECK(std::abs(losses[n] - expected[n]) <=
                          bound * (1.0 + std::abs(expected[n])));
                    sum += losses[n];
                }
                CHECK(total.sum == sum);
                CHECK(total.count == rows - (rows + 1) / 3);

                Rows<T> gradient(rows, vocab), over = logits;
                Rows<double> gradient_expected(rows, vocab);
                const auto fused = kernels::cross_entropy_backward(logits.view(), labels, 0.25,
                                                                   gradient.view(), again);
                CHECK(again == losses);
                CHECK(fused.sum == total.sum);
                kernels::reference::cross_entropy_backward(exact.view(), labels, 0.25,
                                                           gradient_expected.view());
                for (Index n = 0; n < rows; ++n)
                    for (Index i = 0; i < vocab; ++i)
                        CHECK(std::abs(static_cast<double>(gradient.view()(n, i)) -
                                       gradient_expected.view()(n, i)) <= 0.25 * bound);
                CHECK(gradient.padding_untouched());
                kernels::cross_entropy_backward(over.view(), labels, 0.25, over.view(), again);
                CHECK(over.values() == gradient.values());
            }
        }
    }
}

TEST_CASE("cross_entropy: any number of threads, a row alone") {
    const Rows<float> logits(60, 700, 1, 4.0);
    const auto labels = some_labels(60, 700, 3);
    std::vector<double> one(60), three(60), alone(1);
    const int threads = num_threads();
    set_num_threads(1);
    const auto a = kernels::cross_entropy(logits.view(), labels, one);
    set_num_threads(3);
    const auto b = kernels::cross_entropy(logits.view(), labels, three);
    set_num_threads(threads);
    CHECK(a.sum == b.sum);
    CHECK(one == three);
    kernels::cross_entropy(logits.view().middle_rows(11, 1), std::span(labels).subspan(11, 1),
                           alone);
    CHECK(alone[0] == one[11]);
    CHECK(-kernels::log_likelihood<float>(logits.row(11), labels[11]) == one[11]);
}

TEST_CASE("cross_entropy: nothing counted, certain and impossible labels") {
    Rows<float> logits(1, 4, 1);
    std::vector<double> losses(1);
    const std::vector<token_id> none{kernels::ignore_index};
    CHECK(kernels::cross_entropy(logits.view(), none, losses).mean() == 0.0);
    CHECK(losses[0] == 0.0);
    for (float& z : logits.row(0)) z = -std::numeric_limits<float>::infinity();
    logits.view()(0, 2) = 3.0F;
    CHECK(kernels::log_likelihood<float>(logits.row(0), 2) == 0.0);
    CHECK(kernels::log_likelihood<float>(logits.row(0), 1) ==
          -std::numeric_limits<double>::infinity());
    logits.view()(0, 0) = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(kernels::log_likelihood<float>(logits.row(0), 2)));
}

TEST_CASE("cross_entropy_backward: impossible labels, rows of NaN and of nothing but -inf") {
    const float infinity = std::numeric_limits<float>::infinity();
    Rows<float> logits(3, 40, 1), gradient(3, 40);
    for (float& z : logits.row(0)) z = -infinity;
    logits.view()(0, 2) = 3.0F;
    logits.view()(1, 30) = std::numeric_limits<float>::quiet_NaN();
    for (float& z : logits.row(2)) z = -infinity;
    const std::vector<token_id> labels{1, 5, 0};
    std::vector<double> losses(3);
    kernels::cross_entropy_backward(logits.view(), labels, 0.5, gradient.view(), losses);
    CHECK(losses[0] == std::numeric_limits<double>::infinity());
    CHECK(gradient.view()(0, 1) == -0.5F);
    CHECK(gradient.view()(0, 2) == 0.5F);
    CHECK(gradient.view()(0, 3) == 0.0F);
    for (const Index row : {1, 2}) {
        CHECK(std::isnan(losses[static_cast<std::size_t>(row)]));
        for (const float d : gradient.row(row)) CHECK(std::isnan(d));
    }
}

TEST_CASE("cross_entropy_backward: reference against central differences") {
    Rows<double> logits(2, 5, 1), gradient(2, 5);
    const std::vector<token_id> labels{3, 0};
    std::vector<double> losses(2);
    kernels::reference::cross_entropy_backward(logits.view(), labels, 0.5, gradient.view());
    const auto loss = [&] {
        kernels::reference::cross_entropy<double>(logits.view(), labels, losses);
        return 0.5 * (losses[0] + losses[1]);
    };
    for (Index i = 0; i < 5; ++i)
        CHECK(test::central_difference(loss, logits.view()(1, i)) ==
              Approx(gradient.view()(1, i)).epsilon(1e-7));
}
