// PageBank: what grows with a stream in one module, in pages that snapshots share.
//
// The module's layout says which pages there are: those of the chunks of the text, and those of
// what stays of many chunks when their pages are gone. A page is written only by a bank that alone
// owns it (reserve sees to that), so a copy of a bank costs a pointer a page, and what was written
// before is shared for ever. Rolling back is forgetting: everything written is a function of the
// tokens before it.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "hydralm/core/error.hpp"
#include "hydralm/state/page_table.hpp"

namespace HYDRALM_NAMESPACE {

// Which pages of a kind a bank keeps for tokens in chunk m.
enum class Kept : std::uint8_t {
    whole,   // all, under every policy: memory cannot be bounded
    window,  // what PageLayout::window tokens before the next one lie in, under every policy
    exact,   // of PastBounds::first_exact(m) and later
    pooled,  // from the chunk before PastBounds::first_scored(m) on
    free,    // all where memory grows, none where it is bounded
    sparse   // all where BankPolicy::sparse chooses what is read, else none
};

struct PageKind {
    Index chunks = 0;  // that a page stands for; 0: there is no such kind
    Kept kept = Kept::whole;
    std::array<Index, 3> bytes{};  // of a page, by format
    Index bounded_bytes = 0;       // more of them where memory is bounded
    // 64 columns, each of a page of the kind before (PageLayout::derive): a page exists once the
    // first of them does, and is in no file. Its chunks are a multiple of 64.
    bool derived = false;
};

// What a module declares of what grows.
struct PageLayout {
    Index chunk_tokens = 1;
    Index window = 0;  // of Kept::window: tokens that one reads, its own included
    // The first is of one chunk a page, and lies where the policy says; so does what the second has
    // beyond the budget there, where tokens look into some of its pages only
    // (BankPolicy::open_groups); the others, on the heap.
    std::array<PageKind, 1 + tree_heights> kinds{};
    Index parts = 1;  // of a page of the first kind, read each for itself
    Index reads = 0;  // of such parts, by a token, at most; 0: of every page
    Index heads = 0;  // of a token, each of which reads parts as BankPolicy::sparse says
    // Makes a column of a page of a derived kind, of so many bytes, from a page of the kind before.
    void (*derive)(const std::byte* page, Index bytes, std::byte* derived, Index column) = nullptr;
};

// A value: copies share pages. One thread at a time, as the stream it belongs to; different banks
// that share pages may be used by different threads.
class PageBank {
public:
    static constexpr Index most_chunks = Index{1} << 31;  // they are numbered in 32 bits

    PageBank() = default;
    // Throws Error for a policy that cannot be.
    explicit PageBank(const PageLayout& layout, const BankPolicy& policy = {})
        : layout_(layout), policy_(checked(policy, layout)) {
        for (std::size_t k = 0; k < kinds; ++k) {
            if (!has(k)) continue;
            const Index bytes = page_bytes(layout.kinds[k], policy.format, policy.bounded());
            if (policy.pages != nullptr && k == 1 && policy.open_groups > 0)
                tables_[k] = detail::PageTable(bytes, policy.pages, policy.pages->budget());
            else tables_[k] = detail::PageTable(bytes, k == 0 ? policy.pages : nullptr);
        }
    }
    PageBank(const PageBank&) = default;
    PageBank(PageBank&&) noexcept = default;
    // Throws std::bad_alloc, nothing changed.
    PageBank& operator=(const PageBank& other) { return *this = PageBank(other); }
    PageBank& operator=(PageBank&&) noexcept = default;
    ~PageBank() = default;

    const PageLayout& layout() const noexcept { return layout_; }
    const BankPolicy& policy() const noexcept { return policy_; }
    // Whether there are pages of a kind under its policy.
    bool has(std::size_t kind) const noexcept {
        const PageKind& k = layout_.kinds[kind];
        return k.chunks > 0 && !(k.kept == Kept::free && policy_.bounded()) &&
               !(k.kept == Kept::sparse && !policy_.sparse.on());
    }
    // Whether the pages of a kind lie where BankPolicy::pages says, once there are many.
    bool lies_in_source(std::size_t kind) const noexcept { return tables_[kind].has_source(); }
    // Whether its memory grows with the stream: not under a bounded policy, not for windows alone.
    bool grows() const noexcept {
        return !policy_.bounded() && std::ranges::any_of(layout_.kinds, [](const PageKind& kind) {
            return kind.chunks > 0 && kind.kept != Kept::window;
        });
    }
    // Whether its tokens read what BankPolicy::sparse says.
    bool reads_sparsely() const noexcept { return layout_.heads > 0 && policy_.sparse.on(); }
    // Whether its tokens choose the chunks that they read, as all of retrieval layers do.
    bool chooses_chunks() const noexcept { return layout_.reads > 0 || reads_sparsely(); }
    // How many groups the tokens to come look into; of what is kept nothing changes, nor does where
    // it lies. Throws Error.
    void set_open_groups(Index groups) {
        BankPolicy policy = policy_;
        policy.open_groups = groups;
        policy_ = checked(std::move(policy), layout_);
    }

    // The pages of a kind, to read and, where reserve made them, to write.
    PageView pages(std::size_t kind) const noexcept { return tables_[kind].view(); }

    // Makes the memory to write tokens [begin, end): pages that exist, and that no other bank
    // reads. A bank that does not grow forgets what no token from begin on reads. Throws
    // std::bad_alloc, what the source of pages throws, and Error for more chunks than most_chunks:
    // all that was written before begin and is still read stays. Cost: a page copied at most twice
    // a fork, and pages made once.
    void reserve(std::int64_t begin, std::int64_t end) {
        if (end <= begin) return;
        const Index first = chunk_of(begin), last = chunk_of(end - 1);
        if (last >= most_chunks)
            raise({.field = "position",
                   .expected =
                       "at most 2^31 chunks of " + std::to_string(layout_.chunk_tokens) + " tokens",
                   .found = std::to_string(end) + " tokens",
                   .fix = "begin the stream anew, or use a model of longer chunks"});
        drop_before(begin);
        for (std::size_t k = 0; k < kinds; ++k) {
            if (!has(k)) continue;
            const PageKind& kind = layout_.kinds[k];
            if (!kind.derived) {
                tables_[k].own(first / kind.chunks, last / kind.chunks);
                continue;
            }
            const Index n = columns(kind, end), pages = ceil_div(n, chunk_group);
            const bool writes = n > columns(kind, begin);  // else all exist, and stay shared
            tables_[k].own(writes ? first / kind.chunks : pages, pages - 1);
        }
    }
    // Told before tokens are computed whose memory is reserved: the source of pages may let go of
    // what others read.
    void expect_reads(Index tokens) const noexcept {
        if (policy_.pages == nullptr) return;
        // Of a kind, by tokens each of which reads so many parts of its pages; 0: all.
        const auto bytes = [&](std::size_t kind, Index reads) {
            const detail::PageTable& table = tables_[kind];
            if (table.source_bytes() == 0) return Index{0};
            const Index part = table.page_bytes() / layout_.parts + brought_in,
                        all = table.source_bytes() + brought_in;
            return reads > 0 ? std::min(tokens * reads * part, all) : all;
        };
        const bool sparsely = reads_sparsely();
        const Index heads = sparsely ? layout_.heads : layout_.parts;
        policy_.pages->expect(bytes(0, sparsely ? heads * policy_.sparse.reads() : layout_.reads) +
                              bytes(1, heads * policy_.open_groups));
    }
    // Told behind them.
    void release_reads() const noexcept {
        if (policy_.pages != nullptr) policy_.pages->release();
    }
    // Told before a page of a kind is read or written outside of that.
    void expect_page(std::size_t kind = 0) const noexcept {
        const detail::PageTable& table = tables_[kind];
        if (table.source_bytes() > 0) policy_.pages->expect(table.page_bytes() + brought_in);
    }

    // Back to before the first token; pages are given back.
    void clear() noexcept {
        for (detail::PageTable& table : tables_) table.clear();
    }

    // f(span of bytes) for every page that holds what tokens from position on read, in order, but
    // those of derived kinds.
    template <class F>
    void for_each_page(std::int64_t position, const F& f) const {
        for (std::size_t k = 0; k < kinds; ++k) {
            if (layout_.kinds[k].derived) continue;
            const detail::PageTable& table = tables_[k];
            const Range held = held_at(k, position);
            for (Index i = held.first; i < held.end; ++i) {
                expect_page(k);
                f(std::span(table.at(i), static_cast<std::size_t>(table.page_bytes())));
            }
        }
    }
    // Bytes of those pages.
    Index bytes(std::int64_t position) const noexcept {
        Index sum = 0;
        for (std::size_t k = 0; k < kinds; ++k)
            if (!layout_.kinds[k].derived)
                sum += held_at(k, position).size() * tables_[k].page_bytes();
        return sum;
    }
    // Fills the pages of derived kinds, those of the others being filled.
    void derive(std::int64_t position) const noexcept {
        for (std::size_t k = 1; k < kinds; ++k) {
            const PageKind& kind = layout_.kinds[k];
            if (!kind.derived || !has(k)) continue;
            for (Index n = 0; n < columns(kind, position); ++n)
                layout_.derive(tables_[k - 1].at(n), tables_[k].page_bytes(),
                               tables_[k].at(n / chunk_group), n % chunk_group);
        }
    }
    // Makes all pages for tokens up to position in a bank that is empty. Throws as reserve does
    // when memory runs out.
    void make_pages(std::int64_t position) {
        drop_before(position);
        for (std::size_t k = 0; k < kinds; ++k) {
            const Range held = held_at(k, position);
            tables_[k].own(held.first, held.end - 1);
        }
    }
    // Bytes of all memory, that of shared pages included.
    Index bytes() const noexcept {
        Index sum = 0;
        for (const detail::PageTable& table : tables_) sum += table.bytes();
        return sum;
    }

    static constexpr Index page_bytes(const PageKind& kind, BankFormat format,
                                      bool bounded) noexcept {
        return kind.bytes[static_cast<std::size_t>(format)] + (bounded ? kind.bounded_bytes : 0);
    }
    // Throws Error where a module of this layout cannot keep the past so.
    static BankPolicy checked(BankPolicy policy, const PageLayout& layout) {
        const auto expect = [](bool good, const char* field, std::string expected, Index found,
                               const char* fix) {
            if (!good)
                raise({.field = field,
                       .expected = std::move(expected),
                       .found = std::to_string(found),
                       .fix = fix});
        };
        const bool bounded = policy.bounded();
        expect(policy.exact_chunks >= 0, "exact_chunks", "0 or more", policy.exact_chunks,
               "0 keeps every chunk as it is");
        expect(policy.pooled_chunks >= 0 && bounded == (policy.pooled_chunks > 0), "pooled_chunks",
               bounded ? "1 or more" : "0", policy.pooled_chunks,
               "a bank of bounded memory has exact and pooled chunks");
        for (const PageKind& kind : layout.kinds)
            if (bounded && kind.chunks > 0 && kind.kept == Kept::whole)
                raise({.field = "banks",
                       .expected = "layers that can drop the past",
                       .found = "attention to all of it",
                       .fix = "bound a model without layers of attention to the whole past"});
        expect(policy.open_groups >= 0 && policy.open_groups <= most_open_groups, "open_groups",
               "0 to " + std::to_string(most_open_groups), policy.open_groups,
               "0 looks into every group");
        expect(!bounded || policy.open_groups == 0, "open_groups", "0", policy.open_groups,
               "a bank of bounded memory scores each of its chunks");
        const SparsePast& sparse = policy.sparse;
        expect(sparse.chunks >= 0 && sparse.chunks <= SparsePast::most_chunks, "sparse.chunks",
               "0 to " + std::to_string(SparsePast::most_chunks), sparse.chunks,
               "0 reads every chunk");
        expect(sparse.recent >= 0 && sparse.recent <= SparsePast::most_recent, "sparse.recent",
               "0 to " + std::to_string(SparsePast::most_recent), sparse.recent,
               "1 reads the chunk before a token's own whatever its score");
        const Index chunk = page_bytes(layout.kinds[0], policy.format, bounded);
        expect(policy.pages == nullptr || policy.pages->budget() >= chunk, "budget",
               "at least a chunk, " + std::to_string(chunk) + " bytes",
               policy.pages == nullptr ? 0 : policy.pages->budget(),
               "give the bank more resident memory");
        return policy;
    }

private:
    static constexpr std::size_t kinds = std::tuple_size_v<decltype(PageLayout::kinds)>;
    static constexpr Index brought_in = 2 * 65536;  // by the system, around what is read of a file

    struct Range {
        Index first, end;
        Index size() const noexcept { return end - first; }
    };

    Index chunk_of(std::int64_t position) const noexcept {
        return static_cast<Index>(position / layout_.chunk_tokens);
    }
    Index first_in_window(std::int64_t position) const noexcept {
        return chunk_of(std::max<std::int64_t>(0, position + 1 - layout_.window));
    }
    // Of pages of a derived kind, complete before the token at position.
    Index columns(const PageKind& kind, std::int64_t position) const noexcept {
        return chunk_of(position) / (kind.chunks / chunk_group);
    }
    // The pages of kind k that tokens from position on can read.
    Range held_at(std::size_t k, std::int64_t position) const noexcept {
        if (!has(k)) return {0, 0};
        const PageKind& kind = layout_.kinds[k];
        if (kind.derived) return {0, ceil_div(columns(kind, position), chunk_group)};
        const PastBounds bounds = policy_.bounds();
        const Index m = chunk_of(position), chunks = position == 0 ? 0 : chunk_of(position - 1) + 1,
                    end = ceil_div(chunks, kind.chunks);
        const Index first = kind.kept == Kept::window   ? first_in_window(position)
                            : kind.kept == Kept::exact  ? bounds.first_exact(m)
                            : kind.kept == Kept::pooled ? bounds.first_scored(m) - 1
                                                        : 0;
        return {std::min(std::max<Index>(0, first) / kind.chunks, end), end};
    }
    void drop_before(std::int64_t position) noexcept {
        for (std::size_t k = 0; k < kinds; ++k) tables_[k].drop_before(held_at(k, position).first);
    }

    PageLayout layout_;
    BankPolicy policy_;
    std::array<detail::PageTable, kinds> tables_;
};

// Throws Error for banks that round the past or drop some of it, or whose tokens do not read all
// that the layer's would: a gradient reads it as it was.
inline void expect_exact(std::span<const PageBank> banks) {
    for (const PageBank& bank : banks)
        if (bank.policy().bounded() || bank.policy().format != BankFormat::exact ||
            bank.reads_sparsely())
            raise({.field = "states",
                   .expected = "banks that keep every token as it is",
                   .found = "banks that round or drop the past, or pass over some of it",
                   .fix = "train on states made with the policy BankPolicy{}"});
}

// The policy under which banks of these layouts together never take more than budget bytes, when
// they are fed at most tokens at once: for every chunk that stays whole two are kept as means.
// Throws Error for a budget that has no room for that, and for a layout that cannot be bounded.
inline BankPolicy bounded_policy(std::span<const PageBank> banks, Index budget,
                                 BankFormat format = BankFormat::exact, Index tokens = 256) {
    if (banks.empty()) return {};
    constexpr Index means = 2;
    Index begun = 0, each = 0;  // bytes beside those of a chunk that stays whole, and of one
    for (const PageBank& bank : banks) {
        const PageLayout& layout = bank.layout();
        PageBank::checked({.exact_chunks = 1, .pooled_chunks = 1}, layout);
        const Index fed = 1 + ceil_div(tokens, layout.chunk_tokens);  // chunks of one call
        for (const PageKind& kind : layout.kinds) {
            if (kind.chunks == 0) continue;
            const Index bytes = PageBank::page_bytes(kind, format, true);
            if (kind.kept == Kept::exact) {
                begun += fed * bytes;
                each += bytes;
            } else if (kind.kept == Kept::window) {
                begun += (fed + ceil_div(layout.window, layout.chunk_tokens)) * bytes;
            } else if (kind.kept == Kept::pooled) {
                begun += (2 + ceil_div(1 + fed, kind.chunks)) * bytes;
                each += ceil_div((1 + means) * bytes, kind.chunks);
            }
        }
    }
    const Index exact = (budget - begun) / std::max<Index>(each, 1);
    if (exact < 1)
        raise({.field = "budget",
               .expected = "at least " + std::to_string(begun + each) + " bytes",
               .found = std::to_string(budget),
               .fix = "give the bank more memory, or feed fewer tokens at once"});
    return {.format = format, .exact_chunks = exact, .pooled_chunks = means * exact};
}

}  // namespace HYDRALM_NAMESPACE
