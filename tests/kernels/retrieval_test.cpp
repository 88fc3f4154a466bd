// Retrieval, one head, under every policy of the bank, against the reference over what the bank
// keeps.
#include "hydralm/kernels/retrieval/retrieval.hpp"

#include "hydralm/kernels/retrieval/reference.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/layers/retrieval_pages.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random_rows.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

// Unit keys, queries and values of N tokens, and one head's bank of them.
template <class T, Index D, Index C>
struct Case {
    using Head = kernels::RetrievalHead<T, D, C>;
    static constexpr T lambda = T(1.3), local = T(0.4);

    Rows<T> q, k, v;
    std::vector<T> gates;
    PageBank bank;
    Index top_k;

    Case(Index N, Index kept, const BankPolicy& policy, std::uint64_t seed)
        : q(N, D, seed, 2.0),
          k(N, D, seed + 1),
          v(N, D, seed + 2),
          bank(retrieval_layout<Head>(1), policy),
          top_k(kept) {
        Random random(seed, 5);
        kernels::l2_normalize<D>(k.view());
        for (Index n = 0; n < N; ++n) gates.push_back(static_cast<T>(random.uniform(0.0, 1.0)));
    }

    struct Result {
        std::vector<T> out;
        std::vector<std::int32_t> selected;
        bool operator==(const Result&) const = default;
    };

    // n tokens into the bank.
    void keep(Index first, Index n) {
        std::vector<T> scratch(static_cast<std::size_t>(Head::scratch_elements),
                               std::numeric_limits<T>::quiet_NaN());
        bank.reserve(first, first + n);
        const Head head(retrieval_past(bank), 0);
        for (Index t = first; t < first + n; ++t) {
            head.put(t, k.view().row(t), v.view().row(t), gates[static_cast<std::size_t>(t)]);
            if ((t + 1) % C == 0) head.summarise(t / C, scratch.data());
        }
    }

    // Through the bank, in calls of at most piece tokens.
    Result run(Index piece) {
        const Index N = q.view().rows();
        Rows<T> out(N, D);
        Result result;
        for (Index first = 0; first < N; first += piece) {
            const Index n = std::min(piece, N - first);
            using Selection = kernels::RetrievalSelection<T>;
            AlignedBuffer<std::byte> memory(
                Selection::bytes(n, top_k) + kernels::retrieval_route_workspace_bytes<T, D>() +
                kernels::retrieval_attend_workspace_bytes<T, D, C>(n, top_k));
            std::memset(memory.data(), 0xff, static_cast<std::size_t>(memory.size()));  // NaN
            Arena arena(memory.span());
            const auto selection = Selection::take(arena, n, top_k);
            keep(first, n);
            const Head head(retrieval_past(bank), 0);
            const auto rows = q.view().middle_rows(first, n);
            kernels::retrieval_route<D, C, T>(rows, first, head, lambda, local, selection, arena);
            kernels::retrieval_attend<D, C, T>(rows, first, head, selection,
                                               out.view().middle_rows(first, n), arena);
            result.selected.insert(result.selected.end(), selection.chunks,
                                   selection.chunks + n * top_k);
        }
        CHECK(out.padding_untouched());
        result.out = out.values();
        return result;
    }

    // The reference over the keys and values as the format keeps them.
    Result reference() const {
        const Index N = q.view().rows();
        PageBank all(retrieval_layout<Head>(1), {.format = bank.policy().format});
        all.reserve(0, N);
        const Head head(retrieval_past(all), 0);
        Rows<T> keys(N, D), values(N, D), out(N, D);
        std::vector<T> scratch(static_cast<std::size_t>(Head::scratch_elements));
        for (Index t = 0; t < N; ++t) {
            head.put(t, k.view().row(t), v.view().row(t), T(0));
            const auto chunk = head.read(t / C, scratch.data());
            for (Index d = 0; d < D; ++d) {
                keys.view()(t, d) = chunk.keys[d * Head::key_stride + t % C];
                values.view()(t, d) = chunk.values[t % C * Head::value_stride + d];
            }
        }
        Result result;
        result.selected.resize(static_cast<std::size_t>(N * top_k));
        kernels::retrieval_attention_reference<T>(
            q.view(), keys.view(), values.view(), gates.data(), C, top_k, lambda, local, out.view(),
            {result.selected.data(), N, top_k}, bank.policy().bounds(), bank.policy().open_groups);
        result.out = out.values();
        return result;
    }
};

template <class T, Index D, Index C>
void check(Index N, Index top_k, const BankPolicy& policy, std::uint64_t seed) {
    const auto fresh = [&] { return Case<T, D, C>(N, top_k, policy, seed); };
    const auto whole = fresh().run(N);
    INFO("D " << D << ", C " << C << ", N " << N << ", k " << top_k << ", format "
              << static_cast<int>(policy.format) << ", exact " << policy.exact_chunks << ", pooled "
              << policy.pooled_chunks << ", open " << policy.open_groups);
    const auto expected = fresh().reference();
    CHECK(whole.selected == expected.selected);
    check_close(whole.out, expected.out, 1e-12, "out");
    CHECK(fresh().run(1) == whole);  // any cut: the same bits
    CHECK(fresh().run(C + 3) == whole);
}

constexpr auto formats = {BankFormat::exact, BankFormat::bf16, BankFormat::int8};

}  // namespace

TEST_CASE("Keys and values come back as their format rounds them", "[retrieval]") {
    constexpr Index D = 12, C = 5;
    Case<float, D, C> given(23, 1, {}, 1);
    for (const BankFormat format : formats) {
        using Head = Case<float, D, C>::Head;
        PageBank bank(retrieval_layout<Head>(2), {.format = format});
        bank.reserve(0, 23);
        const Head head(retrieval_past(bank), 1);
        for (Index t = 0; t < 23; ++t)
            head.put(t, given.k.view().row(t), given.v.view().row(t), 0.5F);
        std::vector<float> scratch(static_cast<std::size_t>(Head::scratch_elements), 7.0F);
        for (Index t = 0; t < 23; ++t) {
            const auto chunk = head.read(t / C, scratch.data());
            const auto off = [&](const float* x, auto kept) {
                float largest = 0, worst = 0;
                for (Index d = 0; d < D; ++d) {
                    largest = std::max(largest, std::abs(x[d]));
                    worst = std::max(worst, std::abs(x[d] - kept(d)));
                }
                return worst / largest;
            };
            const float bound = format == BankFormat::exact  ? 0.0F
                                : format == BankFormat::bf16 ? 0x1p-8F
                                                             : 0.501F / 127;
            CHECK(off(given.k.view().row(t),
                      [&](Index d) { return chunk.keys[d * Head::key_stride + t % C]; }) <= bound);
            CHECK(off(given.v.view().row(t), [&](Index d) {
                      return chunk.values[t % C * Head::value_stride + d];
                  }) <= bound);
            for (Index d = 0; d < D; ++d)  // padding takes part in products
                for (Index j = C; j < Head::key_stride; ++j)
                    CHECK(chunk.keys[d * Head::key_stride + j] == 0.0F);
        }
    }
    const std::array<float, D> zeros{};
    PageBank bank(retrieval_layout<Case<float, D, C>::Head>(1), {.format = BankFormat::int8});
    bank.reserve(0, 1);
    const Case<float, D, C>::Head head(retrieval_past(bank), 0);
    head.put(0, zeros.data(), zeros.data(), 1.0F);
    std::vector<float> scratch(static_cast<std::size_t>(head.scratch_elements), 7.0F);
    CHECK(head.read(0, scratch.data()).values[0] == 0.0F);
}

TEST_CASE("What is not finite does not come back as a number", "[retrieval]") {
    constexpr Index D = 4, C = 1;
    using Head = kernels::RetrievalHead<float, D, C>;
    const std::array<float, D> good{1, 2, 3, 4};
    for (const BankFormat format : formats)
        for (const float bad :
             {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
            for (std::size_t d = 0; d < D; ++d) {
                auto value = good;
                value[d] = bad;
                PageBank bank(retrieval_layout<Head>(1), {.format = format});
                bank.reserve(0, 1);
                const Head head(retrieval_past(bank), 0);
                head.put(0, value.data(), value.data(), 1.0F);
                std::vector<float> scratch(static_cast<std::size_t>(Head::scratch_elements));
                const auto chunk = head.read(0, scratch.data());
                CHECK_FALSE(std::isfinite(chunk.values[d]));
                CHECK_FALSE(std::isfinite(chunk.keys[static_cast<Index>(d) * Head::key_stride]));
            }
}

TEST_CASE("Every format is the reference over what it keeps", "[retrieval]") {
    for (const BankFormat format : formats)
        for (const Index N : {0, 1, 7, 8, 9, 70}) {
            check<double, 12, 8>(N, 3, {.format = format}, 3);
            check<double, 32, 33>(N, 2, {.format = format}, 4);
        }
}

TEST_CASE("Two levels choose the chunks of the best groups", "[retrieval]") {
    for (const Index open : {1, 2, 3})
        for (const Index N : {64 * 2, 64 * 2 + 1, 64 * 2 * 5 + 3}) {
            check<double, 8, 2>(N, 3, {.open_groups = open}, 5);
            check<double, 4, 1>(N, 4, {.format = BankFormat::bf16, .open_groups = open}, 6);
        }
    // More groups than a page of their sums holds.
    check<double, 4, 1>(64 * 64 + 64 * 3 + 5, 2, {.open_groups = 2}, 7);
}

TEST_CASE("A node's sum is that of all the summaries in it, in a bank that was filled too",
          "[retrieval]") {
    constexpr Index D = 4, C = 1, N = 64 * 64 * 2 + 70;
    Case<double, D, C> given(N, 1, {}, 13);
    given.keep(0, N);
    PageBank filled(given.bank.layout());
    filled.make_pages(N);
    std::vector<std::byte> bytes;
    given.bank.for_each_page(N, [&](std::span<const std::byte> page) {
        bytes.insert(bytes.end(), page.begin(), page.end());
    });
    auto next = bytes.begin();
    filled.for_each_page(N, [&](std::span<std::byte> page) {
        std::copy_n(next, page.size(), page.begin());
        next += static_cast<std::ptrdiff_t>(page.size());
    });
    filled.derive(N);
    const kernels::RetrievalHead<double, D, C> head(retrieval_past(given.bank), 0),
        other(retrieval_past(filled), 0);
    const auto element = [](const auto& of, Index height, Index n, Index d) {
        return of.summaries(height, n / chunk_group)[d * chunk_group + n % chunk_group];
    };
    for (Index height = 1; height < tree_heights; ++height)
        for (Index n = 0; n < N / node_chunks(height); ++n)
            for (Index d = 0; d < D; ++d) {
                double sum = 0;
                for (Index c = n * node_chunks(height); c < (n + 1) * node_chunks(height); ++c)
                    sum += given.gates[static_cast<std::size_t>(c)] * given.k.view()(c, d);
                CHECK(element(head, height, n, d) == Approx(sum).margin(1e-10));
                CHECK(element(other, height, n, d) == element(head, height, n, d));
            }
}

TEST_CASE("Two levels with every group open are flat routing, bit for bit", "[retrieval]") {
    const auto run = [](Index open) {
        return Case<float, 8, 2>(64 * 2 * 8 + 9, 3, {.open_groups = open}, 8).run(256);
    };
    CHECK(run(8) == run(0));
    CHECK(run(1).selected != run(0).selected);
}

TEST_CASE("A bounded bank gives the means of what left it", "[retrieval]") {
    for (const BankFormat format : formats)
        for (const auto& [exact, pooled] : {std::pair<Index, Index>{1, 1}, {2, 3}, {5, 70}}) {
            const BankPolicy policy{
                .format = format, .exact_chunks = exact, .pooled_chunks = pooled};
            check<double, 8, 4>(4 * 90 + 3, 3, policy, 9);
            check<double, 12, 5>(5 * 12, 2, policy, 10);
        }
}

TEST_CASE("A bounded bank with room for all is the unbounded one, bit for bit", "[retrieval]") {
    const auto run = [](const BankPolicy& policy) {
        return Case<float, 12, 8>(300, 3, policy, 11).run(64);
    };
    CHECK(run({.exact_chunks = 38, .pooled_chunks = 1}) == run({}));
    CHECK(run({.exact_chunks = 2, .pooled_chunks = 1}).out != run({}).out);
}

TEST_CASE("A bounded bank does not grow, and a copy of it goes its own way", "[retrieval]") {
    using Bank = Case<float, 8, 4>;
    const BankPolicy policy{.exact_chunks = 3, .pooled_chunks = 70};
    Bank bounded(4001, 2, policy, 12);
    const auto whole = bounded.run(64);
    CHECK(bounded.bank.bytes() <= (3 + 64 / 4 + 2) * Bank::Head::chunk_bytes(BankFormat::exact) +
                                      4 * (Bank::Head::summary_bytes + Bank::Head::mean_bytes));
    CHECK(bounded.bank.bytes(4001) <= bounded.bank.bytes());

    // Both write on from the same pages, the first in the middle of a chunk.
    const PageBank before = bounded.bank;
    std::vector<std::byte> kept, found;
    const auto into = [](std::vector<std::byte>& to) {
        return [&to](auto page) { to.insert(to.end(), page.begin(), page.end()); };
    };
    before.for_each_page(4001, into(kept));
    bounded.bank.reserve(4001, 4100);
    const Bank::Head head(retrieval_past(bounded.bank), 0);
    std::vector<float> scratch(static_cast<std::size_t>(Bank::Head::scratch_elements));
    for (Index t = 4001; t < 4100; ++t) {
        head.put(t, bounded.k.view().row(t - 4001), bounded.v.view().row(t - 4001), 1.0F);
        if ((t + 1) % 4 == 0) head.summarise(t / 4, scratch.data());
    }
    before.for_each_page(4001, into(found));
    CHECK(found == kept);
}
