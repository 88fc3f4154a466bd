// How a stream keeps the past: its banks in which format, how much of it, where the pages lie; and
// how its fixed arrays rest.
#pragma once

#include <memory>

#include "hydralm/core/paged_past.hpp"

namespace HYDRALM_NAMESPACE {

// Where the chunk pages of banks come from, if not from the heap. Shared by a stream, its forks and
// their threads.
class PageSource {
public:
    virtual ~PageSource() = default;
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

// How arrays of fixed size that allow it (the memory of delta rules) are kept between calls: as
// they are, or rounded behind each call to int16 with a scale per row. Computed with is T in both.
enum class StateFormat : std::uint8_t { exact, int16 };

// Told what tokens of retrieval layers read of the past, where somebody wants to see it.
class ReadObserver {
public:
    virtual ~ReadObserver() = default;
    // Head `head` gave this past chunk this weight for the token at position. Layers come in their
    // order, on the thread that feeds the stream.
    virtual void read(std::int64_t position, Index head, Index chunk, double weight) noexcept = 0;
};

// Chosen with the state; one model serves all. Memory is bounded as PastBounds says: what a
// retrieval layer then reads of chunks that are too old is the mean of their values, under the
// summaries they had; all before the pooled ones are one pair, the mean of their summaries and
// values decayed by 1/pooled_chunks a chunk. Attention to the whole past refuses to be bounded.
struct BankPolicy {
    std::shared_ptr<PageSource> pages{};  // of chunks; null: the heap
    BankFormat format = BankFormat::exact;
    Index exact_chunks = 0;   // 0: all, and a bank grows with the stream
    Index pooled_chunks = 0;  // at least 1 beside exact_chunks
    // Groups of 64 chunks that a token looks into where it chooses chunks; 0: all of them.
    Index open_groups = 0;
    // Attention to the whole past reads some chunks of it alone, and keeps bounds of their keys
    // (kernels/full_attention/key_bounds.hpp). Other layers are as ever.
    SparsePast sparse{};
    std::shared_ptr<ReadObserver> reads{};   // null: nobody is told
    StateFormat state = StateFormat::exact;  // of fixed arrays, banks aside

    PastBounds bounds() const noexcept { return {exact_chunks, pooled_chunks}; }
    // Memory that stays the same however long the stream.
    bool bounded() const noexcept { return bounds().bounded(); }
    bool operator==(const BankPolicy&) const = default;
};

}  // namespace HYDRALM_NAMESPACE
