// RetrievalBank: what one retrieval layer keeps of one stream, in pages that snapshots share.
//
// A chunk page holds keys, values and gates of C tokens for all heads; a group page what stays of
// 64 chunks when their pages are gone; a level page the sums of 64 groups. A page is written only
// by a bank that alone owns it (reserve sees to that), so a copy of a bank costs a pointer a page,
// and what was written before is shared for ever. Rolling back is forgetting: everything written is
// a function of the tokens before it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"

namespace HYDRALM_NAMESPACE {

// How keys and values are kept: as they are, rounded to bfloat16, or to 8 bits with a scale for the
// key and the value of each token and head.
enum class BankFormat : std::uint8_t { exact, bf16, int8 };
constexpr std::string_view name(BankFormat format) noexcept {
    return format == BankFormat::exact ? "exact" : format == BankFormat::bf16 ? "bf16" : "int8";
}

// Where the chunk pages of banks come from, if not from the heap. Shared by a stream, its forks and
// their threads.
class RetrievalPages {
public:
    virtual ~RetrievalPages() = default;
    // bytes of zeros, aligned to hydralm::alignment, which live as long as the pointer, whose
    // use_count counts the users of these bytes alone. Throws when there are no more.
    virtual std::shared_ptr<std::byte> take(Index bytes) = 0;
    // Told before pages are used: so much of them may be read and written until the next time.
    virtual void expect(Index bytes) noexcept = 0;
    // Told when a call has done with them.
    virtual void release() noexcept {}
    // Bytes of pages that stay resident.
    virtual Index budget() const noexcept = 0;
};

// How the banks of a stream keep the past, and how a token searches it: chosen with the state, one
// model serves all. A token in chunk m reads chunks m − exact_chunks … m as they are; the
// pooled_chunks before them as the mean of their values, under the summaries they had; all before
// those as one pair, the mean of their summaries and values decayed by 1/pooled_chunks a chunk.
struct BankPolicy {
    std::shared_ptr<RetrievalPages> pages{};  // of chunks; null: the heap
    BankFormat format = BankFormat::exact;
    Index exact_chunks = 0;   // 0: all, and the bank grows with the stream
    Index pooled_chunks = 0;  // at least 1 beside exact_chunks
    Index open_groups = 0;    // groups of 64 chunks that a token looks into; 0: all of them

    static constexpr Index most_open_groups = 16;

    // Memory that stays the same however long the stream.
    bool bounded() const noexcept { return exact_chunks > 0; }
    bool operator==(const BankPolicy&) const = default;
};

// Sizes that the mixer gives a bank.
struct RetrievalBankLayout {
    Index chunk_tokens = 1;              // C
    std::array<Index, 3> chunk_bytes{};  // of a chunk page, by format
    Index summary_bytes = 0;             // of the summaries of a group, and of a level page
    Index mean_bytes = 0;                // of the means beside them in a bounded bank
    Index heads = 1;
    Index reads = 0;  // parts of chunk pages, one head's each, that a token reads at most
};

namespace detail {

// Pages first(), first() + 1, … of one size, on the heap or from a source.
class PageTable {
public:
    PageTable() = default;
    explicit PageTable(Index page_bytes, std::shared_ptr<RetrievalPages> source = nullptr)
        : page_bytes_(page_bytes), source_(std::move(source)) {}

    Index page_bytes() const noexcept { return page_bytes_; }
    Index end() const noexcept { return first_ + count_; }
    std::byte* at(Index i) const noexcept {
        return pages_[static_cast<std::size_t>(i - first_)].get();
    }
    // Of all memory there is, pages that wait to be used again included.
    Index bytes() const noexcept { return static_cast<Index>(pages_.size()) * page_bytes_; }

    // Makes pages [from, to] exist and be nobody else's; from ≤ end().
    void own(Index from, Index to) {
        for (; end() <= to; ++count_)
            if (count_ == static_cast<Index>(pages_.size())) pages_.push_back(new_page());
            else if (Page& page = slot(end()); shared(page)) page = new_page();
            else std::fill_n(page.get(), page_bytes_, std::byte{0});
        for (Index i = from; i <= to; ++i) {
            if (!shared(slot(i))) continue;
            const Page copy = new_page();
            std::copy_n(at(i), page_bytes_, copy.get());
            slot(i) = copy;
        }
    }
    // Forgets the pages before i; their memory waits to be used again.
    void drop_before(Index i) noexcept {
        if (i <= first_) return;
        const Index dropped = std::min(i - first_, count_);
        std::rotate(pages_.begin(), pages_.begin() + dropped, pages_.begin() + count_);
        count_ -= dropped;
        first_ = i;
    }
    // Forgets all pages, and gives their memory back.
    void clear() noexcept {
        first_ = count_ = 0;
        pages_.clear();
    }

private:
    using Page = std::shared_ptr<std::byte>;

    Page& slot(Index i) noexcept { return pages_[static_cast<std::size_t>(i - first_)]; }
    static bool shared(const Page& page) noexcept {
        if (page.use_count() > 1) return true;
        // Taking a count and giving it back comes after whoever gave the last one back, and so
        // after that owner's reads; looking at the count does not.
        const Page mine = page;  // NOLINT(performance-unnecessary-copy-initialization)
        return false;
    }
    Page new_page() const {
        if (source_ != nullptr) return source_->take(page_bytes_);
        const auto buffer = std::make_shared<AlignedBuffer<std::byte>>(page_bytes_);
        return {buffer, buffer->data()};
    }

    Index page_bytes_ = 0;
    std::shared_ptr<RetrievalPages> source_;
    Index first_ = 0, count_ = 0;
    std::vector<Page> pages_;  // count_ pages, then those that wait
};

}  // namespace detail

// A value: copies share pages. One thread at a time, as the stream it belongs to; different banks
// that share pages may be used by different threads.
class RetrievalBank {
public:
    static constexpr Index group = 64;  // chunks in a group, groups in a level page
    static constexpr Index most_chunks = Index{1} << 31;  // routing numbers them in 32 bits

    RetrievalBank() = default;
    // Throws Error for a policy that cannot be.
    explicit RetrievalBank(const RetrievalBankLayout& layout, const BankPolicy& policy = {})
        : layout_(layout),
          policy_(checked(policy, layout)),
          chunks_(layout.chunk_bytes[static_cast<std::size_t>(policy.format)], policy.pages),
          groups_(layout.summary_bytes + (policy.bounded() ? layout.mean_bytes : 0)),
          levels_(layout.summary_bytes) {}
    RetrievalBank(const RetrievalBank&) = default;
    RetrievalBank(RetrievalBank&&) noexcept = default;
    // Throws std::bad_alloc, nothing changed.
    RetrievalBank& operator=(const RetrievalBank& other) { return *this = RetrievalBank(other); }
    RetrievalBank& operator=(RetrievalBank&&) noexcept = default;
    ~RetrievalBank() = default;

    const RetrievalBankLayout& layout() const noexcept { return layout_; }
    const BankPolicy& policy() const noexcept { return policy_; }
    // How many groups the tokens to come look into; of what is kept nothing changes. Throws Error.
    void set_open_groups(Index groups) {
        BankPolicy policy = policy_;
        policy.open_groups = groups;
        policy_ = checked(std::move(policy), layout_);
    }

    // Of a token whose own chunk is m: the first past chunk it reads as it is, and the first that
    // has a score of its own.
    Index first_exact(Index m) const noexcept {
        return policy_.bounded() ? std::max<Index>(0, m - policy_.exact_chunks) : 0;
    }
    Index first_scored(Index m) const noexcept {
        return std::max<Index>(0, first_exact(m) - policy_.pooled_chunks);
    }

    // Makes the memory to write tokens [begin, end): pages that exist, and that no other bank
    // reads. A bounded bank forgets what no token from begin on reads. Throws std::bad_alloc, what
    // the source of pages throws, and Error for more chunks than most_chunks: all that was written
    // before begin and is still read stays. Cost: a page copied at most twice a fork, and pages
    // made once.
    void reserve(std::int64_t begin, std::int64_t end) {
        if (end <= begin) return;
        const Index first = chunk_of(begin), last = chunk_of(end - 1);
        if (last >= most_chunks)
            throw Error({.field = "position",
                         .expected = "at most 2^31 chunks of " +
                                     std::to_string(layout_.chunk_tokens) + " tokens",
                         .found = std::to_string(end) + " tokens",
                         .fix = "begin the stream anew, or use a model of longer chunks"});
        drop_before(begin);
        chunks_.own(first, last);
        groups_.own(first / group, last / group);
        if (!policy_.bounded()) levels_.own(first / group / group, last / group / group);
    }
    // Told before tokens are computed whose memory is reserved: the source of pages may let go of
    // what others read.
    void expect_reads(Index tokens) const noexcept {
        if (policy_.pages != nullptr)
            policy_.pages->expect(tokens * layout_.reads *
                                  (chunks_.page_bytes() / layout_.heads + brought_in));
    }
    // Told behind them.
    void release_reads() const noexcept {
        if (policy_.pages != nullptr) policy_.pages->release();
    }
    // Told before a chunk page is read or written outside of that.
    void expect_page() const noexcept {
        if (policy_.pages != nullptr) policy_.pages->expect(chunks_.page_bytes() + brought_in);
    }

    // Back to before the first token; pages are given back.
    void clear() noexcept {
        chunks_.clear();
        groups_.clear();
        levels_.clear();
    }

    // f(span of bytes) for every page that holds what tokens from position on read, in order.
    template <class F>
    void for_each_page(std::int64_t position, const F& f) const {
        const Held held = held_at(position);
        const auto visit = [&](const detail::PageTable& table, const Range& range) {
            for (Index i = range.first; i < range.end; ++i) {
                if (&table == &chunks_) expect_page();
                f(std::span(table.at(i), static_cast<std::size_t>(table.page_bytes())));
            }
        };
        visit(chunks_, held.chunks);
        visit(groups_, held.groups);
        visit(levels_, held.levels);
    }
    // Bytes of those pages.
    Index bytes(std::int64_t position) const noexcept {
        const Held held = held_at(position);
        return held.chunks.size() * chunks_.page_bytes() +
               held.groups.size() * groups_.page_bytes() +
               held.levels.size() * levels_.page_bytes();
    }
    // Makes those pages in a bank that is empty. Throws as reserve does when memory runs out.
    void make_pages(std::int64_t position) {
        drop_before(position);
        const Held held = held_at(position);
        chunks_.own(held.chunks.first, held.chunks.end - 1);
        groups_.own(held.groups.first, held.groups.end - 1);
        levels_.own(held.levels.first, held.levels.end - 1);
    }

    std::byte* chunk(Index c) const noexcept { return chunks_.at(c); }
    std::byte* summaries(Index g) const noexcept { return groups_.at(g); }
    std::byte* means(Index g) const noexcept { return groups_.at(g) + layout_.summary_bytes; }
    std::byte* sums(Index level) const noexcept { return levels_.at(level); }
    // Bytes of all memory, that of shared pages included.
    Index bytes() const noexcept { return chunks_.bytes() + groups_.bytes() + levels_.bytes(); }

private:
    static constexpr Index brought_in = 2 * 65536;  // by the system, around what is read of a file

    struct Range {
        Index first, end;
        Index size() const noexcept { return end - first; }
    };
    // The pages that tokens from a position on can read.
    struct Held {
        Range chunks, groups, levels;
    };

    static BankPolicy checked(BankPolicy policy, const RetrievalBankLayout& layout) {
        const auto expect = [](bool good, const char* field, std::string expected, Index found,
                               const char* fix) {
            if (!good)
                throw Error({.field = field,
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
        expect(policy.open_groups >= 0 && policy.open_groups <= BankPolicy::most_open_groups,
               "open_groups", "0 to " + std::to_string(BankPolicy::most_open_groups),
               policy.open_groups, "0 looks into every group");
        expect(!bounded || policy.open_groups == 0, "open_groups", "0", policy.open_groups,
               "a bank of bounded memory scores each of its chunks");
        const Index chunk = layout.chunk_bytes[static_cast<std::size_t>(policy.format)];
        expect(policy.pages == nullptr || policy.pages->budget() >= chunk, "budget",
               "at least a chunk, " + std::to_string(chunk) + " bytes",
               policy.pages == nullptr ? 0 : policy.pages->budget(),
               "give the bank more resident memory");
        return policy;
    }

    Index chunk_of(std::int64_t position) const noexcept {
        return static_cast<Index>(position / layout_.chunk_tokens);
    }
    Held held_at(std::int64_t position) const noexcept {
        const Index m = chunk_of(position), chunks = position == 0 ? 0 : chunk_of(position - 1) + 1,
                    groups = ceil_div(chunks, group);
        const auto from = [](Index first, Index end) { return Range{std::min(first, end), end}; };
        return {from(first_exact(m), chunks),
                from(std::max<Index>(0, first_scored(m) - 1) / group, groups),
                {0, policy_.bounded() ? 0 : ceil_div(groups, group)}};
    }
    void drop_before(std::int64_t position) noexcept {
        const Held held = held_at(position);
        chunks_.drop_before(held.chunks.first);
        groups_.drop_before(held.groups.first);
    }

    RetrievalBankLayout layout_;
    BankPolicy policy_;
    detail::PageTable chunks_, groups_, levels_;
};

// The policy of a bank that never takes more than budget bytes, when it is fed at most tokens at
// once: for every chunk that stays whole two are kept as means. Throws Error for a budget that has
// no room for that.
inline BankPolicy bounded_policy(const RetrievalBankLayout& layout, Index budget,
                                 BankFormat format = BankFormat::exact, Index tokens = 256) {
    constexpr Index group = RetrievalBank::group, means = 2;
    const Index chunk_bytes = layout.chunk_bytes[static_cast<std::size_t>(format)],
                group_bytes = layout.summary_bytes + layout.mean_bytes,
                fed = 1 + ceil_div(tokens, layout.chunk_tokens),  // chunks of one call
        begun = 2 + ceil_div(1 + fed, group),                     // groups beside whole ones
        each = chunk_bytes + ceil_div((1 + means) * group_bytes, group),
                exact = (budget - fed * chunk_bytes - begun * group_bytes) / each;
    if (exact < 1)
        throw Error({.field = "budget",
                     .expected = "at least " +
                                 std::to_string(fed * chunk_bytes + begun * group_bytes + each) +
                                 " bytes a layer",
                     .found = std::to_string(budget),
                     .fix = "give the bank more memory, or feed fewer tokens at once"});
    const Index pooled = means * exact;
    return {.format = format, .exact_chunks = exact, .pooled_chunks = pooled};
}

}  // namespace HYDRALM_NAMESPACE
