// CompressiveMemory: exact attention within budget, pooling and tombstones worked by hand, endless
// streams.
#include "hydralm/memory/compressive_memory.hpp"

#include <cmath>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

template <class T>
constexpr double bound = sizeof(T) == 4 ? 1e-5 : 1e-12;

struct Pair {
    std::vector<double> key, value;
    double count;
};

// Softmax of scale·q·k + ln count over the pairs, in plain loops.
std::vector<double> attention(const std::vector<Pair>& pairs, const std::vector<double>& query,
                              double scale) {
    std::vector<double> scores, out(pairs.front().value.size());
    double largest = -INFINITY, total = 0;
    for (const Pair& pair : pairs) {
        double score = std::log(pair.count);
        for (std::size_t i = 0; i < query.size(); ++i) score += scale * query[i] * pair.key[i];
        scores.push_back(score);
        largest = std::max(largest, score);
    }
    for (std::size_t n = 0; n < pairs.size(); ++n) {
        const double weight = std::exp(scores[n] - largest);
        total += weight;
        for (std::size_t i = 0; i < out.size(); ++i) out[i] += weight * pairs[n].value[i];
    }
    for (double& x : out) x /= total;
    return out;
}

// The three tiers from the whole stream at once: what the memory must be equal to.
template <class T>
std::vector<Pair> tiers(const Rows<T>& keys, const Rows<T>& values, Index N, Index w, Index n,
                        Index r, const std::vector<double>& pooling) {
    const auto sum = [&](auto row, Index first, Index count, auto weight) {
        std::vector<double> total(row(first).size());
        for (Index i = 0; i < count; ++i)
            for (std::size_t j = 0; j < total.size(); ++j)
                total[j] += weight(i) * static_cast<double>(row(first + i)[j]);
        return total;
    };
    const auto pair = [&](Index first, Index count, auto weight, double stands_for) {
        return Pair{sum([&](Index i) { return keys.row(i); }, first, count, weight),
                    sum([&](Index i) { return values.row(i); }, first, count, weight), stands_for};
    };
    std::vector<Pair> pooled, result;
    const Index groups = N < w ? 0 : (N - w) / r;
    for (Index g = 0; g < groups; ++g)
        pooled.push_back(pair(
            g * r, r, [&](Index i) { return pooling[static_cast<std::size_t>(i)]; },
            static_cast<double>(r)));
    const Index left = std::max<Index>(0, groups - n);
    if (left > 0) {
        Pair tombstone{std::vector<double>(pooled[0].key.size()),
                       std::vector<double>(pooled[0].value.size()),
                       static_cast<double>(std::min(left * r, n * r))};
        double total = 0;
        for (Index g = 0; g < left; ++g) {
            const double weight =
                std::pow(1 - 1 / static_cast<double>(n), static_cast<double>(left - 1 - g));
            total += weight;
            const Pair& p = pooled[static_cast<std::size_t>(g)];
            for (std::size_t i = 0; i < p.key.size(); ++i) tombstone.key[i] += weight * p.key[i];
            for (std::size_t i = 0; i < p.value.size(); ++i)
                tombstone.value[i] += weight * p.value[i];
        }
        for (double& x : tombstone.key) x /= total;
        for (double& x : tombstone.value) x /= total;
        result.push_back(tombstone);
    }
    for (Index g = left; g < groups; ++g) result.push_back(pooled[static_cast<std::size_t>(g)]);
    for (Index i = groups * r; i < N; ++i)
        result.push_back(pair(i, 1, [](Index) { return 1.0; }, 1));
    return result;
}

template <class T, Index Dim, Index ValueDim>
void check_stream(Index N, Index w, Index n, Index r, bool learned, std::uint64_t seed) {
    const Rows<T> keys(N, Dim, seed, 2.0), values(N, ValueDim, seed + 1),
        queries(N, Dim, seed + 2, 2.0);
    CompressiveMemory<T, Dim, ValueDim> memory(w, n, r);
    std::vector<double> pooling(static_cast<std::size_t>(r), 1 / static_cast<double>(r));
    if (learned) {
        std::vector<T> weights;
        for (Index i = 0; i < r; ++i) {
            weights.push_back(static_cast<T>(0.1 + 0.05 * static_cast<double>(i)));
            pooling[static_cast<std::size_t>(i)] = static_cast<double>(weights.back());
        }
        memory.set_pooling(weights);
    }
    for (Index t = 0; t < N; ++t) {
        memory.append(keys.row(t), values.row(t));
        if (t % 3 != 0 && t + 1 != N) continue;
        Rows<T> out(1, ValueDim);
        memory.attend(queries.row(t), out.row(0));
        const auto pairs = tiers(keys, values, t + 1, w, n, r, pooling);
        const std::vector<double> query(queries.row(t).begin(), queries.row(t).end());
        check_close(out.values(), attention(pairs, query, 1 / std::sqrt(static_cast<double>(Dim))),
                    bound<T>,
                    "Dim " + std::to_string(Dim) + ", w " + std::to_string(w) + ", n " +
                        std::to_string(n) + ", r " + std::to_string(r) + ", t " +
                        std::to_string(t) + ", seed " + std::to_string(seed));
        CHECK(memory.tokens() == t + 1);
        CHECK(memory.exact_tokens() >= std::min(w, t + 1));
        CHECK(memory.exact_tokens() < w + r);
        CHECK(memory.summaries() <= n);
        CHECK(memory.exact_tokens() + r * memory.summaries() + memory.tokens_left() == t + 1);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("the tiers are those of the whole stream", "[memory]", float, double) {
    using T = TestType;
    check_stream<T, 16, 16>(300, 40, 5, 4, false, 1);
    check_stream<T, 16, 16>(300, 40, 5, 4, true, 2);
    check_stream<T, 7, 19>(200, 1, 3, 7, false, 3);
    check_stream<T, 1, 1>(60, 1, 1, 1, false, 4);
    check_stream<T, 33, 5>(400, 130, 100, 2, true, 5);
}

TEMPLATE_TEST_CASE("a budget of the stream's length is exact attention", "[memory]", float,
                   double) {
    using T = TestType;
    constexpr Index D = 32;
    for (const Index N : {1, 63, 64, 65, 200}) {
        const Rows<T> keys(N, D, 1), values(N, D, 2), query(1, D, 3);
        CompressiveMemory<T, D> window(N, 1, 8), singles(1, N, 1);  // pairs of one token are tokens
        std::vector<Pair> all;
        for (Index t = 0; t < N; ++t) {
            window.append(keys.row(t), values.row(t));
            singles.append(keys.row(t), values.row(t));
            all.push_back({{keys.row(t).begin(), keys.row(t).end()},
                           {values.row(t).begin(), values.row(t).end()},
                           1});
        }
        const std::vector<double> q(query.row(0).begin(), query.row(0).end());
        const auto expected = attention(all, q, 1 / std::sqrt(static_cast<double>(D)));
        Rows<T> out(2, D);
        window.attend(query.row(0), out.row(0));
        singles.attend(query.row(0), out.row(1));
        check_close(out.row(0), expected, bound<T>, "window " + std::to_string(N));
        check_close(out.row(1), expected, bound<T>, "singles " + std::to_string(N));
    }
}

TEST_CASE("a pooled score worked by hand", "[memory]") {
    // w 1, r 2: tokens 0 and 1 become the pair (2, 10), token 2 stays. scale 1, q 0.5:
    // weights 2·e^(0.5·2) and e^(0.5·4).
    CompressiveMemory<double, 1> memory(1, 4, 2, 1.0);
    const auto append = [&](double key, double value) {
        memory.append(std::span<const double>(&key, 1), std::span<const double>(&value, 1));
    };
    const auto attend = [&](double query) {
        double out = NAN;
        memory.attend(std::span<const double>(&query, 1), std::span<double>(&out, 1));
        return out;
    };
    CHECK(attend(1) == 0);  // nothing was appended
    append(1, 8);
    append(3, 12);
    append(4, 1);
    CHECK(memory.exact_tokens() == 1);
    CHECK(memory.summaries() == 1);
    const double a = 2 * std::exp(1.0), b = std::exp(2.0);
    CHECK(std::abs(attend(0.5) - (a * 10 + b * 1) / (a + b)) < 1e-14);
    CHECK(std::abs(attend(0) - (2 * 10 + 1) / 3.0) < 1e-14);  // each token weighs the same

    const std::vector<double> last{0, 1};  // the later token alone stands for its pair
    memory.set_pooling(last);
    append(7, 5);
    append(9, 2);  // tokens 2 and 3 pooled: (7, 5)
    CHECK(std::abs(attend(0) - (2 * 10 + 2 * 5 + 2) / 5.0) < 1e-14);
    memory.reset();
    CHECK(attend(0) == 0);
}

TEST_CASE("a tombstone counts what left, up to n_summary pairs", "[memory]") {
    CompressiveMemory<float, 4> memory(8, 3, 5);
    const Rows<float> token(1, 4, 1);
    for (int t = 0; t < 200; ++t) {
        memory.append(token.row(0), token.row(0));
        const int groups = t + 1 < 8 ? 0 : (t + 1 - 8) / 5;
        CHECK(memory.summaries() == std::min(groups, 3));
        CHECK(memory.tokens_left() == 5 * std::max(0, groups - 3));
        CHECK(memory.tombstone_tokens() == std::min(15, 5 * std::max(0, groups - 3)));
        Rows<float> out(1, 4);
        memory.attend(token.row(0), out.row(0));  // equal tokens: their value, however kept
        check_close(out.row(0), token.row(0), 1e-6, "t " + std::to_string(t));
    }
}

TEMPLATE_TEST_CASE("a long stream stays finite, in the same bytes", "[memory]", float, double) {
    using T = TestType;
    constexpr Index D = 8, N = 1000;
    const Rows<T> keys(N, D, 1, 30.0), values(N, D, 2);
    CompressiveMemory<T, D> memory(16, 8, 4);
    CHECK(memory.bytes() == ((1 + 8 + 16 + 4) * 2 * D + 4) * static_cast<Index>(sizeof(T)));
    Rows<T> out(1, D);
    const long before = allocations();
    bool finite = true;
    for (Index t = 0; t < 1'000'000; ++t) {
        memory.append(keys.row(t % N), values.row(t % N));
        if (t % 10 != 0) continue;
        memory.attend(keys.row((t * 7) % N), out.row(0));
        for (const T x : out.row(0)) finite = finite && std::abs(x) < T(10);
    }
    CHECK(finite);
    CHECK(allocations() == before);
    CHECK(memory.tokens() == 1'000'000);
}

TEST_CASE("a copy of a memory is a snapshot", "[memory]") {
    const Rows<float> keys(100, 8, 1), values(100, 8, 2);
    CompressiveMemory<float, 8> memory(10, 3, 4);
    Rows<float> whole(1, 8), resumed(1, 8), early(1, 8), again(1, 8);
    for (Index t = 0; t < 60; ++t) memory.append(keys.row(t), values.row(t));
    auto copy = memory;
    const auto kept = memory;
    kept.attend(keys.row(0), early.row(0));
    for (Index t = 60; t < 100; ++t) {
        memory.append(keys.row(t), values.row(t));
        copy.append(keys.row(t), values.row(t));
    }
    memory.attend(keys.row(0), whole.row(0));
    copy.attend(keys.row(0), resumed.row(0));
    kept.attend(keys.row(0), again.row(0));
    CHECK(same_bits(whole.values(), resumed.values()));
    CHECK(same_bits(early.values(), again.values()));
    CHECK_FALSE(same_bits(whole.values(), early.values()));
}

TEST_CASE("a memory refuses sizes", "[memory]") {
    using Memory = CompressiveMemory<float, 4, 2>;
    check_error([] { Memory(0, 1, 1); }, {"window: expected 1 to 2^31, found 0"});
    check_error([] { Memory(1, 0, 1); }, {"n_summary: expected 1 to 2^31, found 0"});
    check_error([] { Memory(1, 1, -3); }, {"ratio: expected 1 to 2^31, found -3"});
    check_error([] { Memory(Index{1} << 58, 1, 1); }, {"window: expected 1 to 2^31, found 288"});
    check_error([] { Memory(1, (Index{1} << 31) + 1, 1); }, {"n_summary: expected 1 to 2^31"});
    check_error([] { Memory(1, 1, 1, NAN); }, {"scale: expected a finite number"});
    Memory memory(2, 2, 2);
    std::vector<float> key(4), value(2);
    check_error([&] { memory.append(value, value); }, {"key: expected 4 values, found 2"});
    check_error([&] { memory.append(key, key); }, {"value: expected 2 values, found 4"});
    check_error([&] { memory.attend(value, value); }, {"query: expected 4 values, found 2"});
    check_error([&] { memory.attend(key, key); }, {"out: expected 2 values, found 4"});
    check_error([&] { memory.set_pooling(key); }, {"pooling weights: expected 2 values, found 4"});
    value[1] = INFINITY;
    check_error([&] { memory.set_pooling(value); }, {"pooling weights: expected finite numbers"});
    CHECK(memory.tokens() == 0);
}
