// PairwiseSum and the norm of blocks: their order is that which is promised.
#include "hydralm/training/pairwise_sum.hpp"
#include "hydralm/training/gradient_clip.hpp"
#include "hydralm/training/parameter_blocks.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Of terms [first, first + n): left and right half, the left one a power of two.
template <class T>
std::vector<T> tree(const std::vector<std::vector<T>>& terms, std::size_t first, std::size_t n) {
    if (n == 1) return terms[first];
    std::size_t left = 1;
    while (2 * left < n) left *= 2;
    auto a = tree(terms, first, left);
    const auto b = tree(terms, first + left, n - left);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

template <class T>
std::vector<T> sum_of(std::vector<std::vector<T>> terms, PairwiseSum<T>& sum) {
    for (auto& term : terms) sum.add(term);
    return terms.back();
}

template <class T>
void check_tree(Index size) {
    Random random(7);
    for (std::size_t n = 1; n <= 17; ++n) {
        INFO(n << " terms of " << size);
        std::vector<std::vector<T>> terms(n, std::vector<T>(static_cast<std::size_t>(size)));
        for (auto& term : terms)
            for (T& x : term) x = static_cast<T>(random.normal());
        const auto expected = tree(terms, 0, n);
        PairwiseSum<T> sum(static_cast<Index>(n), size);
        CHECK(sum_of(terms, sum) == expected);
        CHECK(sum_of(terms, sum) == expected);  // the next sum
        auto last = terms;
        for (auto& term : last) {  // from the back, piece by piece
            for (Index end = size; end > 0; --end)
                sum.add_part(end - 1,
                             std::span(term).subspan(static_cast<std::size_t>(end - 1), 1));
            sum.next();
        }
        CHECK(last.back() == expected);
        if (n > 1) sum.add(std::span(terms[0]));
        sum.clear();
        CHECK(sum_of(terms, sum) == expected);
        // Shares of 2^k terms, each summed by itself, are the same sum.
        for (std::size_t share = 1; share < n; share *= 2) {
            if (n % share != 0) continue;
            std::vector<std::vector<T>> shares;
            PairwiseSum<T> own(static_cast<Index>(share), size),
                all(static_cast<Index>(n / share), size);
            for (std::size_t first = 0; first < n; first += share)
                shares.push_back(
                    sum_of({terms.begin() + static_cast<std::ptrdiff_t>(first),
                            terms.begin() + static_cast<std::ptrdiff_t>(first + share)},
                           own));
            CHECK(sum_of(shares, all) == expected);
        }
    }
}

}  // namespace

TEST_CASE("A sum in pairs is the tree, and so is that of shares", "[pairwise_sum]") {
    for (const Index size : {1, 3, 8, 33}) {
        check_tree<float>(size);
        check_tree<double>(size);
    }
}

TEST_CASE("Blocks cover every parameter once, none two tensors", "[pairwise_sum]") {
    constexpr HydraConfig wide{.vocab_size = 301, .d_model = 160, .n_layers = 1, .n_heads = 5};
    const auto check = [](std::span<const ParameterInfo> infos) {
        const auto blocks = parameter_blocks(infos);
        std::size_t i = 0;
        Index first = 0;
        for (const ParameterInfo& info : infos)
            for (const Index begin = first, end = first + info.size(); first < end; ++i) {
                REQUIRE(i < blocks.size());
                CHECK(blocks[i].first == first);
                CHECK(blocks[i].size == std::min<Index>(1 << 14, end - first));
                CHECK((first - begin) % (1 << 14) == 0);
                first += blocks[i].size;
            }
        CHECK(i == blocks.size());
    };
    check(HydraLM<wide>::parameters);
    check(HydraLM<small_trained>::parameters);
    check({});
}

TEST_CASE("A sum of squares has eight lanes", "[pairwise_sum]") {
    std::vector<float> x;
    for (const int n : {0, 1, 7, 8, 9, 100}) {
        Random random(3);
        x.resize(static_cast<std::size_t>(n));
        std::array<double, 8> lanes{};
        for (std::size_t i = 0; i < x.size(); ++i) {
            x[i] = static_cast<float>(random.normal());
            lanes[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        }
        double expected = 0.0;
        for (const double lane : lanes) expected += lane;
        CHECK(sum_of_squares<float>(x) == Approx(expected).epsilon(1e-15));
    }
}
