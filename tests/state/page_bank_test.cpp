// Pages that grow: which there are under every policy, copies that share them, what is refused.
#include "hydralm/state/page_bank.hpp"

#include "support/catch.hpp"

using namespace hydralm;

namespace {

// Chunks of 4 tokens in pages of 128, 64 and 64 bytes; what stays of 8 of them; of 64.
constexpr PageLayout of_chunks{
    .chunk_tokens = 4,
    .kinds = {
        PageKind{.chunks = 1, .kept = Kept::exact, .bytes = {128, 64, 64}},
        PageKind{.chunks = 8, .kept = Kept::pooled, .bytes = {64, 64, 64}, .bounded_bytes = 192},
        PageKind{.chunks = 64, .kept = Kept::free, .bytes = {64, 64, 64}}}};

// All of the past.
constexpr PageLayout whole{
    .chunk_tokens = 4,
    .kinds = {PageKind{.chunks = 1, .kept = Kept::whole, .bytes = {128, 64, 64}}}};

// All of it, of which two heads read a part on request.
constexpr PageLayout in_part{
    .chunk_tokens = 4,
    .kinds = {PageKind{.chunks = 1, .kept = Kept::whole, .bytes = {128, 64, 64}},
              PageKind{.chunks = 8, .kept = Kept::sparse, .bytes = {64, 64, 64}}},
    .parts = 2,
    .heads = 2};

// Of the 10 tokens up to the next.
constexpr PageLayout of_window{
    .chunk_tokens = 4,
    .window = 10,
    .kinds = {PageKind{.chunks = 1, .kept = Kept::window, .bytes = {128, 64, 64}}}};

// Of 64 pages of one kind a column each in one of the next; derived: the first byte of a page.
constexpr PageLayout of_a_tree{
    .chunk_tokens = 4,
    .kinds = {PageKind{.chunks = 1, .kept = Kept::whole, .bytes = {64, 64, 64}},
              PageKind{.chunks = 64, .kept = Kept::whole, .bytes = {64, 64, 64}},
              PageKind{
                  .chunks = 4096, .kept = Kept::whole, .bytes = {64, 64, 64}, .derived = true}},
    .derive = [](const std::byte* page, Index bytes, std::byte* derived, Index column) {
        derived[column] = bytes == 64 ? page[0] : std::byte{0};
    }};

std::vector<std::byte> contents(const PageBank& bank, std::int64_t position) {
    std::vector<std::byte> all;
    bank.for_each_page(position, [&](std::span<const std::byte> page) {
        all.insert(all.end(), page.begin(), page.end());
    });
    return all;
}

// Token t leaves its number in every kind of page that it writes.
void write(PageBank& bank, std::int64_t begin, std::int64_t end) {
    bank.reserve(begin, end);
    for (std::int64_t t = begin; t < end; ++t)
        for (std::size_t k = 0; k < 3; ++k) {
            const PageKind& kind = bank.layout().kinds[k];
            if (kind.chunks == 0 || (kind.kept == Kept::free && bank.policy().bounded())) continue;
            const Index tokens = kind.chunks * bank.layout().chunk_tokens;
            bank.pages(k).page(t / tokens)[t % 64 % tokens] = static_cast<std::byte>(t % 251);
        }
}

std::string refused_field(const PageLayout& layout, const BankPolicy& policy) {
    try {
        const PageBank bank(layout, policy);
    } catch (const Error& error) {
        return error.detail().field;
    }
    return "";
}

}  // namespace

TEST_CASE("A bank that grows has every page of the past", "[page_bank]") {
    for (const PageLayout& layout : {of_chunks, whole})
        for (const BankFormat format : {BankFormat::exact, BankFormat::bf16, BankFormat::int8}) {
            PageBank bank(layout, {.format = format});
            CHECK(bank.bytes(0) == 0);
            bank.reserve(0, 0);
            CHECK(bank.bytes() == 0);
            for (const Index N : {1, 3, 4, 5, 31, 32, 33, 256, 257}) {
                write(bank, 0, N);
                const Index chunk = format == BankFormat::exact ? 128 : 64,
                            groups = ceil_div(N, 32) + ceil_div(N, 256);
                const Index expected =
                    ceil_div(N, 4) * chunk + (layout.kinds[1].chunks > 0 ? groups * 64 : 0);
                CHECK(bank.bytes(N) == expected);
                CHECK(static_cast<Index>(contents(bank, N).size()) == expected);
                CHECK(bank.bytes() == expected);
            }
        }
}

TEST_CASE("A bounded bank keeps what its tokens read", "[page_bank]") {
    PageBank bank(of_chunks, {.exact_chunks = 2, .pooled_chunks = 11});
    for (std::int64_t t = 0; t < 4000; ++t) write(bank, t, t + 1);
    // Token 4000 is in chunk 1000: exact 998 and 999, pooled from 987, the far ones under 986, in
    // group 123; all of group 124 as well.
    CHECK(bank.bytes(4000) == 2 * 128 + 2 * 256);
    CHECK(bank.bytes() <= 4 * 128 + 4 * 256);
    CHECK(bank.pages(0).first == 997);
    CHECK(bank.pages(1).first == 123);
    CHECK(contents(bank, 4000).front() == static_cast<std::byte>(998 * 4 % 251));
}

TEST_CASE("Copies share pages until they write", "[page_bank]") {
    for (const BankPolicy& policy :
         {BankPolicy{}, BankPolicy{.exact_chunks = 3, .pooled_chunks = 5}}) {
        PageBank bank(of_chunks, policy);
        write(bank, 0, 150);
        const PageBank snapshot = bank;
        for (Index c = 147 / 4; c <= 149 / 4; ++c)
            CHECK(bank.pages(0).page(c) == snapshot.pages(0).page(c));
        const auto before = contents(snapshot, 150);
        PageBank other = snapshot;
        write(bank, 150, 300);
        write(other, 150, 200);
        CHECK(contents(snapshot, 150) == before);
        PageBank alone(of_chunks, policy);
        write(alone, 0, 200);
        CHECK(contents(other, 200) == contents(alone, 200));
    }
}

TEST_CASE("A bank filled from the pages of another goes on as it", "[page_bank]") {
    for (const BankPolicy& policy :
         {BankPolicy{}, BankPolicy{.exact_chunks = 3, .pooled_chunks = 5}})
        for (const Index N : {0, 1, 4, 150}) {
            PageBank bank(of_chunks, policy), filled(of_chunks, policy);
            for (Index t = 0; t < N; ++t) write(bank, t, t + 1);
            const auto kept = contents(bank, N);
            filled.make_pages(N);
            auto next = kept.begin();
            filled.for_each_page(N, [&](std::span<std::byte> page) {
                std::copy_n(next, page.size(), page.begin());
                next += static_cast<std::ptrdiff_t>(page.size());
            });
            write(bank, N, N + 40);
            write(filled, N, N + 40);
            CHECK(contents(bank, N + 40) == contents(filled, N + 40));
            filled.clear();
            CHECK(filled.bytes() == 0);
        }
}

TEST_CASE("Derived pages exist once they have a column, and are made from the others",
          "[page_bank]") {
    PageBank bank(of_a_tree);
    bank.reserve(0, 255);
    CHECK(bank.bytes() == (64 + 1) * 64);
    bank.reserve(255, 256);  // 64 chunks are whole
    CHECK(bank.bytes() == (64 + 1 + 1) * 64);
    constexpr Index N = 4096 * 4 + 3 * 256 + 5, groups = 64 + 3;
    bank.reserve(256, N);
    for (Index g = 0; g < groups; ++g) bank.pages(1).page(g)[0] = static_cast<std::byte>(g + 1);
    CHECK(bank.bytes(N) == (ceil_div(N, 4) + groups + 1) * 64);
    CHECK(bank.bytes() == bank.bytes(N) + 2 * 64);
    CHECK(static_cast<Index>(contents(bank, N).size()) == bank.bytes(N));
    bank.derive(N);
    const PageBank snapshot = bank;
    for (Index g = 0; g < groups; ++g)
        CHECK(snapshot.pages(2).page(g / 64)[g % 64] == static_cast<std::byte>(g + 1));
    bank.reserve(N, N + 1);  // no column is written: the page stays shared
    CHECK(bank.pages(2).page(1) == snapshot.pages(2).page(1));
    bank.reserve(N + 1, N + 256);
    CHECK(bank.pages(2).page(1) != snapshot.pages(2).page(1));
    CHECK(bank.pages(2).page(0) == snapshot.pages(2).page(0));
    PageBank filled(of_a_tree);
    filled.make_pages(N);
    CHECK(filled.bytes() == snapshot.bytes());
    // A stream that begins behind a past which others will give it, and completes no column.
    PageBank behind(of_a_tree);
    behind.reserve(N, N + 1);
    for (Index g = 0; g < groups; ++g) behind.pages(1).page(g)[0] = static_cast<std::byte>(g + 1);
    behind.derive(N);
    for (Index g = 0; g < groups; ++g)
        CHECK(behind.pages(2).page(g / 64)[g % 64] == static_cast<std::byte>(g + 1));
}

TEST_CASE(
    "Where tokens look into some groups, what groups take beyond the budget lies with the chunks",
    "[page_bank]") {
    // Pages that others made, by their size; and what was said of them.
    struct Source final : PageSource {
        Index chunks = 0, groups = 0, expected = 0;
        std::shared_ptr<std::byte> take(Index bytes) override {
            ++(bytes == 128 ? chunks : groups);
            return {new std::byte[static_cast<std::size_t>(bytes)]{},
                    std::default_delete<std::byte[]>()};
        }
        void expect(Index bytes) noexcept override { expected = bytes; }
        Index budget() const noexcept override { return 3 * 64; }
    };
    for (const Index open : {0, 2}) {
        const auto source = std::make_shared<Source>();
        PageBank bank(of_chunks, {.pages = source, .open_groups = open}), heap(of_chunks);
        write(bank, 0, 32 * 3);
        CHECK(source->chunks == 8 * 3);
        CHECK(source->groups == 0);
        bank.expect_reads(1);
        const Index few = source->expected;
        write(bank, 32 * 3, 32 * 10);
        CHECK(source->chunks == 8 * 10);
        CHECK(source->groups == (open > 0 ? 7 : 0));
        CHECK(bank.lies_in_source(1) == (open > 0));
        bank.expect_reads(1);
        CHECK(source->expected - few == 8 * 7 * 128 + (open > 0 ? 7 * 64 + 2 * 65536 : 0));
        write(heap, 0, 32 * 3);
        write(heap, 32 * 3, 32 * 10);
        CHECK(contents(bank, 320) == contents(heap, 320));
        PageBank fork = bank;
        write(fork, 320, 321);  // a group begins
        write(bank, 320, 330);
        CHECK(source->groups == (open > 0 ? 9 : 0));
        write(heap, 320, 330);
        CHECK(contents(bank, 330) == contents(heap, 330));
        bank.set_open_groups(0);
        CHECK(bank.lies_in_source(1) == (open > 0));
    }
}

TEST_CASE("A window's bank has what its tokens read, however long the stream", "[page_bank]") {
    CHECK(PageBank(of_chunks).grows());
    CHECK(PageBank(whole).grows());
    CHECK_FALSE(PageBank(of_chunks, {.exact_chunks = 1, .pooled_chunks = 1}).grows());
    for (const BankPolicy& policy :
         {BankPolicy{},
          BankPolicy{.format = BankFormat::bf16, .exact_chunks = 1, .pooled_chunks = 1}})
        for (const std::int64_t call : {1, 3, 4, 7}) {
            PageBank bank(of_window, policy), fork;
            CHECK_FALSE(bank.grows());
            const Index page = PageBank::page_bytes(of_window.kinds[0], policy.format, false);
            for (std::int64_t t = 0; t < 1000; t += call) {
                write(bank, t, t + call);
                for (std::int64_t seen = std::max<std::int64_t>(0, t - 9); seen < t + call; ++seen)
                    REQUIRE(bank.pages(0).page(seen / 4)[seen % 4] ==
                            static_cast<std::byte>(seen % 251));
                if (t / call == 50) fork = bank;
            }
            CHECK(bank.bytes() <= (1 + 3 + 2) * page);  // of 10 and 7 tokens, cut anywhere
            const auto end = 51 * call;
            CHECK(fork.bytes(end) <= 3 * page + page);
            PageBank filled(of_window, policy);
            filled.make_pages(end);
            CHECK(filled.bytes() == fork.bytes(end));
            const auto before = contents(fork, end);
            write(fork, end, end + 30);
            CHECK(contents(fork, end + 30) != before);
        }
    const auto policy = bounded_policy(std::vector{PageBank(of_window), PageBank(of_chunks)}, 10000,
                                       BankFormat::exact, 16);
    CHECK(policy.exact_chunks <
          bounded_policy(std::vector{PageBank(of_chunks)}, 10000, BankFormat::exact, 16)
              .exact_chunks);
}

TEST_CASE("A bank that is read in part has what that needs, and expects no more", "[page_bank]") {
    struct Told : PageSource {
        Index bytes = 0;
        std::shared_ptr<std::byte> take(Index size) override {
            const auto page = std::make_shared<AlignedBuffer<std::byte>>(size);
            return {page, page->data()};
        }
        void expect(Index size) noexcept override { bytes = size; }
        Index budget() const noexcept override { return 1 << 20; }
    };
    const auto told = std::make_shared<Told>();
    PageBank all(in_part, {.pages = told}),
        part(in_part, {.pages = told, .sparse = {.chunks = 3, .recent = 2}}),
        other(of_chunks, {.sparse = {.chunks = 3}});
    CHECK_FALSE(all.reads_sparsely());
    CHECK(part.reads_sparsely());
    CHECK_FALSE(other.reads_sparsely());
    CHECK_FALSE(all.chooses_chunks());
    CHECK(part.chooses_chunks());
    CHECK_THROWS_AS(expect_exact(std::span(&part, 1)), Error);
    CHECK_NOTHROW(expect_exact(std::span(&other, 1)));
    all.reserve(0, 4000);
    part.reserve(0, 4000);
    CHECK(all.bytes() == 1000 * 128);
    CHECK(part.bytes() == 1000 * 128 + 125 * 64);
    CHECK(part.bytes(33) == 9 * 128 + 2 * 64);
    all.expect_reads(1);
    CHECK(told->bytes > 1000 * 128);
    part.expect_reads(1000);  // no more than there is
    const Index more = told->bytes;
    all.expect_reads(1000);
    CHECK(told->bytes == more);
    part.reserve(4000, 200000);
    part.expect_reads(1);  // a head reads 6 parts of 64 bytes, and what lies around each
    const Index each = told->bytes / (2 * 6);
    CHECK(told->bytes % (2 * 6) == 0);
    part.expect_reads(3);
    CHECK(told->bytes == 3 * 2 * 6 * each);
}

TEST_CASE("A bounded bank ends where its chunks have no number", "[page_bank]") {
    PageBank bank(of_chunks, {.exact_chunks = 1, .pooled_chunks = 1});
    const std::int64_t end = PageBank::most_chunks * 4;
    bank.make_pages(end - 1);
    CHECK_NOTHROW(bank.reserve(end - 1, end));
    const Index bytes = bank.bytes();
    CHECK_THROWS_AS(bank.reserve(end - 1, end + 1), Error);
    CHECK_THROWS_AS(bank.reserve(end, end + 1), Error);
    CHECK(bank.bytes() == bytes);
}

TEST_CASE("A policy that cannot be is refused", "[page_bank]") {
    const auto field = [](const BankPolicy& policy) { return refused_field(of_chunks, policy); };
    CHECK(field({}) == "");
    CHECK(field({.exact_chunks = -1}) == "exact_chunks");
    CHECK(field({.exact_chunks = 4}) == "pooled_chunks");
    CHECK(field({.pooled_chunks = 4}) == "pooled_chunks");
    CHECK(field({.pooled_chunks = -1}) == "pooled_chunks");
    CHECK(field({.open_groups = 17}) == "open_groups");
    CHECK(field({.exact_chunks = 4, .pooled_chunks = 4, .open_groups = 1}) == "open_groups");
    struct Small : PageSource {
        std::shared_ptr<std::byte> take(Index) override { return nullptr; }
        void expect(Index) noexcept override {}
        Index budget() const noexcept override { return 100; }
    };
    CHECK(field({.pages = std::make_shared<Small>()}) == "budget");
    CHECK(field({.pages = std::make_shared<Small>(), .format = BankFormat::int8}) == "");

    CHECK(field({.sparse = {.chunks = -1}}) == "sparse.chunks");
    CHECK(field({.sparse = {.chunks = SparsePast::most_chunks + 1}}) == "sparse.chunks");
    CHECK(field({.sparse = {.recent = -1}}) == "sparse.recent");
    CHECK(field({.sparse = {.recent = SparsePast::most_recent + 1}}) == "sparse.recent");

    // The whole past is not bounded.
    CHECK(refused_field(whole, {.open_groups = 4}) == "");
    CHECK(refused_field(whole, {.exact_chunks = 4, .pooled_chunks = 4}) == "banks");
    CHECK_THROWS_AS(bounded_policy(std::vector{PageBank(whole)}, 1 << 20), Error);

    PageBank bank(of_chunks);
    CHECK_THROWS_AS(bank.set_open_groups(17), Error);
    CHECK_THROWS_AS(bank.set_open_groups(-1), Error);
    CHECK(bank.policy() == BankPolicy{});
    bank.set_open_groups(16);
    CHECK(bank.policy() == BankPolicy{.open_groups = 16});
    PageBank bounded(of_chunks, {.exact_chunks = 1, .pooled_chunks = 1});
    CHECK_THROWS_AS(bounded.set_open_groups(1), Error);
}

TEST_CASE("A bounded policy keeps within its budget", "[page_bank]") {
    for (const Index budget : {4000, 10000, 100000}) {
        const std::vector<PageBank> banks(1, PageBank(of_chunks));
        const BankPolicy policy = bounded_policy(banks, budget, BankFormat::exact, 16);
        CHECK(policy.pooled_chunks == 2 * policy.exact_chunks);
        PageBank bank(of_chunks, policy);
        Index most = 0;
        for (std::int64_t t = 0; t < 20000; t += 16) {
            bank.reserve(t, t + 16);
            most = std::max(most, bank.bytes());
        }
        CHECK(most <= budget);
        CHECK(most > budget / 2);
    }
    CHECK_THROWS_AS(bounded_policy(std::vector{PageBank(of_chunks)}, 1000, BankFormat::exact, 16),
                    Error);
}

TEST_CASE("Banks of different chunks keep within one budget", "[page_bank]") {
    PageLayout longer = of_chunks;
    longer.chunk_tokens *= 8;
    for (PageKind& kind : longer.kinds)
        for (Index& bytes : kind.bytes) bytes *= 8;
    std::vector<PageBank> banks{PageBank(of_chunks), PageBank(longer)};
    constexpr Index budget = 40000;
    const BankPolicy policy = bounded_policy(banks, budget, BankFormat::exact, 16);
    for (PageBank& bank : banks) bank = PageBank(bank.layout(), policy);
    Index most = 0;
    for (std::int64_t t = 0; t < 20000; t += 16) {
        Index bytes = 0;
        for (PageBank& bank : banks) {
            bank.reserve(t, t + 16);
            bytes += bank.bytes();
        }
        most = std::max(most, bytes);
    }
    CHECK(most <= budget);
    CHECK(most > budget / 2);
}
