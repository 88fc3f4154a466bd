// FactBank: chunked writes against the rule one by one, recall, gates, overwriting, a million
// facts.
#include "hydralm/memory/fact_bank.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "hydralm/kernels/delta_rule/delta_rule.hpp"
#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-5 : 1e-12;

// The rule in plain loops: S [ValueDim, KeyDim].
template <class T>
void reference_write(std::vector<T>& S, std::span<const T> key, std::span<const T> value, T alpha,
                     T beta) {
    const std::size_t K = key.size();
    T norm = 0;
    for (const T k : key) norm += k * k;
    norm = std::max(std::sqrt(norm), static_cast<T>(1e-12));
    for (std::size_t v = 0; v < value.size(); ++v) {
        T known = 0;
        for (std::size_t k = 0; k < K; ++k) known += S[v * K + k] * key[k] / norm;
        const T u = beta * (value[v] - alpha * known);
        for (std::size_t k = 0; k < K; ++k) S[v * K + k] = alpha * S[v * K + k] + u * key[k] / norm;
    }
}

template <class Bank>
std::vector<typename Bank::Scalar> matrix(const Bank& bank) {
    using T = typename Bank::Scalar;
    std::vector<T> S(static_cast<std::size_t>(Bank::key_dim * Bank::value_dim),
                     std::numeric_limits<T>::quiet_NaN());
    bank.copy_to(S);
    return S;
}

template <class T, Index K, Index V>
void check_against_reference(Index N, T alpha, T beta, std::uint64_t seed) {
    const Rows<T> keys(N, K, seed, 3.0), values(N, V, seed + 1);
    const std::string where = "K " + std::to_string(K) + ", V " + std::to_string(V) + ", N " +
                              std::to_string(N) + ", alpha " + std::to_string(alpha) + ", beta " +
                              std::to_string(beta) + ", seed " + std::to_string(seed);
    std::vector<T> start(static_cast<std::size_t>(K * V));
    Random random(seed + 2);
    for (T& s : start) s = static_cast<T>(random.normal());
    FactBank<T, K, V> whole{std::span<const T>(start)}, one_by_one = whole, cut = whole;
    auto expected = start;
    for (Index n = 0; n < N; ++n) {
        reference_write<T>(expected, keys.row(n), values.row(n), alpha, beta);
        one_by_one.write(keys.row(n), values.row(n), alpha, beta);
    }
    whole.write(keys.view(), values.view(), alpha, beta);
    const Index first = N / 3;
    cut.write(keys.view().middle_rows(0, first), values.view().middle_rows(0, first), alpha, beta);
    cut.write(keys.view().middle_rows(first, N - first),
              values.view().middle_rows(first, N - first), alpha, beta);
    check_close(matrix(whole), expected, bound<T>, "whole, " + where);
    check_close(matrix(one_by_one), expected, bound<T>, "one by one, " + where);
    check_close(matrix(cut), expected, bound<T>, "cut, " + where);

    Rows<T> recalled(N, V), alone(1, V);
    whole.recall(keys.view(), recalled.view());
    CHECK(recalled.padding_untouched());
    std::vector<T> products;
    const auto S = matrix(whole);
    for (Index n = 0; n < N; ++n) {
        T norm = 0;
        for (const T k : keys.row(n)) norm += k * k;
        for (Index v = 0; v < V; ++v) {
            T sum = 0;
            for (Index k = 0; k < K; ++k)
                sum += S[static_cast<std::size_t>(v * K + k)] *
                       keys.row(n)[static_cast<std::size_t>(k)] / std::sqrt(norm);
            products.push_back(sum);
        }
        whole.recall(keys.row(n), alone.row(0));
        CHECK(same_bits(alone.row(0), recalled.row(n)));
    }
    check_close(recalled.values(), products, bound<T>, "recall, " + where);
}

template <class T>
double cosine(std::span<const T> a, std::span<const T> b) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        ab += static_cast<double>(a[i]) * static_cast<double>(b[i]);
        aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
        bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
    }
    return ab / std::sqrt(aa * bb);
}

}  // namespace

TEMPLATE_TEST_CASE("chunked writes are writes one by one", "[memory]", float, double) {
    using T = TestType;
    for (const Index N : {0, 1, 2, 7, 8, 9, 63, 64, 65, 197}) {
        check_against_reference<T, 24, 37>(N, T(1), T(1), 10);
        check_against_reference<T, 24, 37>(N, T(0.9), T(0.7), 20);
        check_against_reference<T, 24, 37>(N, T(0), T(0.7), 25);
    }
    check_against_reference<T, 1, 1>(70, T(0.9), T(0.7), 30);
    check_against_reference<T, 5, 3>(70, T(1), T(0.5), 40);
    check_against_reference<T, 64, 64>(70, T(1), T(1), 50);
    check_against_reference<T, 1030, 16>(70, T(0.99), T(1), 60);
    check_against_reference<T, 16, 530>(70, T(1e-30), T(1e-3), 70);
}

TEMPLATE_TEST_CASE("a bank is the state of the gated delta rule", "[memory]", float, double) {
    using T = TestType;
    constexpr Index D = 16, N = 100;
    Rows<T> keys(N, D, 1), values(N, D, 2), out(N, D);
    std::vector<T> g(N, std::log(T(0.95))), beta(N, T(0.6)), state(D * D);
    FactBank<T, D> bank;
    bank.write(keys.view(), values.view(), T(0.95), T(0.6));
    kernels::l2_normalize<D>(keys.view());
    const auto fixed = [](MatrixView<T> x) {
        return MatrixView<T, D>(x.data(), x.rows(), D, x.stride());
    };
    kernels::gated_delta_reference<T, D>({fixed(keys.view()),
                                          fixed(keys.view()),
                                          fixed(values.view()),
                                          {g.data(), N, 1},
                                          {beta.data(), N, 1}},
                                         MatrixView<T, D>(state.data(), D), fixed(out.view()));
    const auto S = matrix(bank);
    std::vector<T> transposed(D * D);
    for (std::size_t i = 0; i < D; ++i)
        for (std::size_t j = 0; j < D; ++j) transposed[i * D + j] = state[j * D + i];
    check_close(S, transposed, bound<T>, "D 16, N 100");
}

TEST_CASE("writing again overwrites; alpha forgets, beta blends", "[memory]") {
    // k = e_0 scaled, so S k̂ is column 0
    const std::vector<double> key{5, 0, 0, 0}, other{0, -2, 0, 0}, first{1, 2}, second{3, -8};
    std::vector<double> out(2);
    FactBank<double, 4, 2> bank;
    bank.write(key, first);
    bank.write(other, second);
    bank.recall(key, out);
    CHECK(out == first);
    bank.write(key, second);
    bank.recall(key, out);
    CHECK(out == second);
    bank.write(key, first, 1, 0.25);  // 0.75·second + 0.25·first
    bank.recall(key, out);
    CHECK(out == std::vector<double>{2.5, -5.5});
    bank.write(key, first, 0.5);  // halves the other fact
    bank.recall(other, out);
    CHECK(out == std::vector<double>{1.5, -4});
    const std::vector<double> nothing(4);
    bank.write(nothing, second);
    bank.recall(nothing, out);
    CHECK(out == std::vector<double>{0, 0});
    bank.recall(key, out);
    CHECK(out == first);
    bank.reset();
    bank.recall(key, out);
    CHECK(out == std::vector<double>{0, 0});
}

TEMPLATE_TEST_CASE("a fact with alpha 0 begins anew", "[memory]", float, double) {
    using T = TestType;
    constexpr Index K = 24, V = 37;
    for (const Index N : {1, 2, 9, 64, 65, 130}) {
        const Rows<T> keys(N, K, 1), values(N, V, 2), old(70, K, 3), of_old(70, V, 4);
        FactBank<T, K, V> bank, fresh;
        bank.write(old.view(), of_old.view());
        bank.write(keys.row(0), values.row(0), T(0), T(0.5));
        fresh.write(keys.row(0), values.row(0), T(1), T(0.5));
        INFO("N " << N << ", seeds 1 to 4");
        CHECK(matrix(bank) == matrix(fresh));  // nothing is left of the old facts
        for (auto* one : {&bank, &fresh}) one->write(keys.view(), values.view(), T(0.9));
        CHECK(matrix(bank) == matrix(fresh));
        bank.write(keys.view(), values.view(), T(0), T(0.5));  // of each fact, the last one stays
        fresh.reset();
        fresh.write(keys.row(N - 1), values.row(N - 1), T(1), T(0.5));
        CHECK(matrix(bank) == matrix(fresh));
    }
}

TEST_CASE("a thousand facts in 1024 x 1024", "[memory]") {
    constexpr Index N = 1000, D = 1024;
    using Bank = FactBank<float, D>;
    static_assert(Bank::state_bytes == D * D * 4);
    const Rows<float> keys(N, D, 1), old(N, D, 2), fresh(N, D, 3);
    Rows<float> recalled(N, D);
    Bank bank;
    bank.write(keys.view(), old.view());
    bank.recall(keys.view(), recalled.view());
    const Eigen::MatrixXf unit = old.view().eigen().rowwise().normalized();
    const Eigen::MatrixXf scores = recalled.view().eigen() * unit.transpose();
    Index right = 0;
    for (Index n = 0; n < N; ++n) {
        Index best = 0;
        scores.row(n).maxCoeff(&best);
        right += best == n;
    }
    CHECK(right == N);

    bank.write(keys.view(), fresh.view());
    bank.recall(keys.view(), recalled.view());
    double margin = 0;
    for (Index n = 0; n < N; ++n)
        margin += (cosine<float>(recalled.row(n), fresh.row(n)) -
                   cosine<float>(recalled.row(n), old.row(n))) /
                  static_cast<double>(N);
    INFO("overwrite margin " << margin);
    CHECK(margin >= 0.5);
    CHECK(margin <= 1.0);
}

TEMPLATE_TEST_CASE("a million writes stay finite, in the same bytes", "[memory]", float, double) {
    using T = TestType;
    constexpr Index N = 1000, K = 8, V = 12;
    const Rows<T> keys(N, K, 1), values(N, V, 2);
    FactBank<T, K, V> bank;
    const long before = allocations();
    for (int i = 0; i < 1000; ++i) bank.write(keys.view(), values.view());
    CHECK(allocations() == before);
    Rows<T> out(1, V);
    bank.recall(keys.row(N - 1), out.row(0));
    check_close(out.values(), values.row(N - 1), 10 * bound<T>, "the last fact");
    for (const T s : matrix(bank)) CHECK(std::abs(s) < T(100));
}

TEMPLATE_TEST_CASE("a bank has the same bits for any number of threads", "[memory]", float,
                   double) {
    using T = TestType;
    constexpr Index N = 130, K = 96, V = 200;
    const int usual = num_threads();
    const Rows<T> keys(N, K, 1), values(N, V, 2);
    std::vector<std::vector<T>> matrices, outputs;
    for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        FactBank<T, K, V> bank;
        bank.write(keys.view(), values.view(), T(0.99), T(0.9));
        Rows<T> out(N, V);
        bank.recall(keys.view(), out.view());
        matrices.push_back(matrix(bank));
        outputs.push_back(out.values());
    }
    set_num_threads(usual);
    for (const auto& m : matrices) CHECK(same_bits(m, matrices[0]));
    for (const auto& o : outputs) CHECK(same_bits(o, outputs[0]));
}

TEST_CASE("a copy of a bank is a bank of its own", "[memory]") {
    const Rows<float> keys(3, 8, 1), values(3, 8, 2);
    FactBank<float, 8> bank;
    bank.write(keys.view(), values.view());
    const auto copy = bank;
    const auto S = matrix(bank);
    bank.reset();
    CHECK(matrix(copy) == S);
    CHECK(matrix(FactBank<float, 8>(std::span<const float>(S))) == S);
}

TEST_CASE("a bank refuses shapes and gates", "[memory]") {
    const Rows<float> keys(3, 8, 1), values(3, 5, 2);
    Rows<float> out(2, 5);
    FactBank<float, 8, 5> bank;
    bank.write(keys.view(), values.view());
    const auto S = matrix(bank);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    check_error([&] { bank.write(keys.view(), values.view(), 1.F, 0.F); },
                {"beta: expected a number in (0, 1]"});
    for (const float gate : {-1.F, 1.5F, nan}) {
        check_error([&] { bank.write(keys.view(), values.view(), gate); },
                    {"alpha: expected a number in [0, 1]"});
        check_error([&] { bank.write(keys.view(), values.view(), 1.F, gate); },
                    {"beta: expected a number in (0, 1]"});
    }
    check_error([&] { bank.write(values.view(), values.view()); },
                {"keys: expected [3, 8], found [3, 5]"});
    check_error([&] { bank.write(keys.view(), keys.view()); },
                {"values: expected [3, 5], found [3, 8]"});
    check_error([&] { bank.recall(keys.view(), out.view()); },
                {"out: expected [3, 5], found [2, 5]"});
    check_error([&] { (FactBank<float, 8, 4>(std::span(S))); },
                {"S: expected 4 x 8 values, found 40"});
    CHECK(matrix(bank) == S);
}
