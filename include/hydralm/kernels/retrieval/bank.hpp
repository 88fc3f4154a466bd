// RetrievalBank: what one retrieval layer keeps of one stream, in pages that snapshots share.
//
// A chunk page holds the unit keys, values and gates of C tokens for all heads; a group page holds
// the summaries of 64 chunks. A page is written only by a bank that alone owns it (reserve sees to
// that), so a copy of a bank costs a pointer a page, and what was written before is shared for
// ever. Rolling back is forgetting: everything written is a function of the tokens before it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE {

// Sizes of a bank: C, the bytes of both kinds of page, and how much of chunk pages a token reads at
// most.
struct RetrievalBankLayout {
    Index chunk_tokens = 1;
    Index chunk_bytes = 0;
    Index group_bytes = 0;
    Index read_bytes = 0;
};

// Where the chunk pages of banks come from, if not from the heap. Shared by a stream, its forks and
// their threads.
class RetrievalPages {
public:
    virtual ~RetrievalPages() = default;
    // bytes of zeros, aligned to hydralm::alignment, which live as long as the pointer. Throws when
    // there are no more.
    virtual std::shared_ptr<std::byte> take(Index bytes) = 0;
    // Told before tokens are fed: so much of the pages may be read and written until the next time.
    virtual void expect(Index bytes) noexcept = 0;
};

// A value: copies share pages. One thread at a time, as the stream it belongs to; different banks
// that share pages may be used by different threads.
class RetrievalBank {
public:
    static constexpr Index group = 64;  // chunks in a group

    RetrievalBank() = default;
    explicit RetrievalBank(const RetrievalBankLayout& layout,
                           std::shared_ptr<RetrievalPages> source = nullptr)
        : layout_(layout), source_(std::move(source)) {}

    // Makes the memory to write tokens [begin, end): pages that exist, and that no other bank
    // reads. Throws std::bad_alloc, or what the source of pages does, what the
    // bank holds unchanged. Cost: a page copied at most twice a fork, and pages made once.
    void reserve(std::int64_t begin, std::int64_t end) {
        if (end <= begin) return;
        const Index first = chunk_of(begin), last = chunk_of(end - 1);
        own(chunks_, first, last, layout_.chunk_bytes, source_.get());
        own(groups_, first / group, last / group, layout_.group_bytes, nullptr);
        if (source_ != nullptr)
            source_->expect(static_cast<Index>(end - begin) * layout_.read_bytes);
    }

    // Forgets the pages that hold only tokens from position on. Of pages that are kept the tokens
    // from there on are never read before they are written again.
    void truncate(std::int64_t position) {
        const auto [chunks, groups] = pages(position);
        if (chunks < static_cast<Index>(chunks_.size()))
            chunks_.resize(static_cast<std::size_t>(chunks));
        if (groups < static_cast<Index>(groups_.size()))
            groups_.resize(static_cast<std::size_t>(groups));
    }

    // f(span of bytes) for every page that holds tokens before position, in order.
    template <class F>
    void for_each_page(std::int64_t position, const F& f) const {
        const auto [chunks, groups] = pages(position);
        for (Index c = 0; c < chunks; ++c)
            f(std::span(chunk(c), static_cast<std::size_t>(layout_.chunk_bytes)));
        for (Index g = 0; g < groups; ++g)
            f(std::span(summaries(g), static_cast<std::size_t>(layout_.group_bytes)));
    }
    // Bytes of those pages.
    Index bytes(std::int64_t position) const noexcept {
        const auto [chunks, groups] = pages(position);
        return chunks * layout_.chunk_bytes + groups * layout_.group_bytes;
    }

    const RetrievalBankLayout& layout() const noexcept { return layout_; }
    const std::shared_ptr<RetrievalPages>& source() const noexcept { return source_; }
    std::byte* chunk(Index c) const noexcept { return chunks_[static_cast<std::size_t>(c)].get(); }
    std::byte* summaries(Index g) const noexcept {
        return groups_[static_cast<std::size_t>(g)].get();
    }
    // Bytes of all pages, shared ones included.
    Index bytes() const noexcept {
        return static_cast<Index>(chunks_.size()) * layout_.chunk_bytes +
               static_cast<Index>(groups_.size()) * layout_.group_bytes;
    }

private:
    using Page = std::shared_ptr<std::byte>;
    using Pages = std::vector<Page>;

    // How many pages of each kind tokens [0, position) take.
    std::pair<Index, Index> pages(std::int64_t position) const noexcept {
        const Index chunks = position == 0 ? 0 : chunk_of(position - 1) + 1;
        return {chunks, ceil_div(chunks, group)};
    }
    Index chunk_of(std::int64_t position) const noexcept {
        return static_cast<Index>(position / layout_.chunk_tokens);
    }
    static bool shared(const Page& page) noexcept {
        if (page.use_count() > 1) return true;
        std::atomic_thread_fence(std::memory_order_acquire);  // another owner's last reads are over
        return false;
    }
    static Page new_page(Index bytes, RetrievalPages* source) {
        if (source != nullptr) return source->take(bytes);
        const auto buffer = std::make_shared<AlignedBuffer<std::byte>>(bytes);
        return {buffer, buffer->data()};
    }
    static void own(Pages& pages, Index first, Index last, Index bytes, RetrievalPages* source) {
        while (static_cast<Index>(pages.size()) <= last) pages.push_back(new_page(bytes, source));
        for (Index i = first; i <= last; ++i) {
            Page& page = pages[static_cast<std::size_t>(i)];
            if (!shared(page)) continue;
            const Page copy = new_page(bytes, source);
            std::copy_n(page.get(), bytes, copy.get());
            page = copy;
        }
    }

    RetrievalBankLayout layout_;
    std::shared_ptr<RetrievalPages> source_;
    Pages chunks_, groups_;
};

namespace kernels {

// One head's part of a bank of T, head dimension D, C tokens a chunk. Keys lie transposed, so that
// scores and routing scores are sums of rows. Rows are padded to 64 bytes, of
// whatever instruction set; the padding is zero.
template <Real T, Index D, Index C>
class RetrievalHead {
public:
    static constexpr Index unit = static_cast<Index>(alignment / sizeof(T));  // of every row
    static constexpr Index key_stride = round_up(C, unit);
    static constexpr Index value_stride = round_up(D, unit);
    static constexpr Index group = RetrievalBank::group;

    // top_k: past chunks that a token reads beside its own.
    static constexpr RetrievalBankLayout layout(Index heads, Index top_k = 0) noexcept {
        constexpr auto size = static_cast<Index>(sizeof(T));
        constexpr Index around = 2 * 65536;  // what a system may bring in beside it
        return {C, heads * chunk_elements * size, heads * group_elements * size,
                heads * (top_k + 1) * (chunk_elements * size + around)};
    }

    RetrievalHead(const RetrievalBank& bank, Index head) noexcept : bank_(&bank), head_(head) {}

    T* keys(Index c) const noexcept { return chunk(c); }                     // [D, key_stride]
    T* values(Index c) const noexcept { return chunk(c) + D * key_stride; }  // [C, value_stride]
    T* gates(Index c) const noexcept {                                       // [key_stride]
        return chunk(c) + D * key_stride + C * value_stride;
    }
    T* summaries(Index g) const noexcept {  // [D, group]: column c mod group is s_c
        return reinterpret_cast<T*>(bank_->summaries(g)) + head_ * group_elements;
    }

    // Token t: unit key and value [D], gate γ.
    void put(std::int64_t t, const T* key, const T* value, T gate) const noexcept {
        const auto c = static_cast<Index>(t / C), j = static_cast<Index>(t % C);
        T* const k = keys(c) + j;
        for (Index d = 0; d < D; ++d) k[d * key_stride] = key[d];
        std::copy_n(value, D, values(c) + j * value_stride);
        gates(c)[j] = gate;
    }
    // s_c = Σ_j γ_j k̂_j in the order of positions, once chunk c is whole.
    void summarise(Index c) const noexcept {
        const T* const k = keys(c);
        const T* const g = gates(c);
        T* const s = summaries(c / group) + c % group;
        constexpr Index block = 4;  // D is a multiple of it
        for (Index d = 0; d < D; d += block) {
            T sum[block] = {};
            for (Index j = 0; j < C; ++j)
                for (Index i = 0; i < block; ++i)
                    sum[i] = simd::fma<T>(g[j], k[(d + i) * key_stride + j], sum[i]);
            for (Index i = 0; i < block; ++i) s[(d + i) * group] = sum[i];
        }
    }

private:
    static constexpr Index chunk_elements = D * key_stride + C * value_stride + key_stride;
    static constexpr Index group_elements = D * group;

    T* chunk(Index c) const noexcept {
        return reinterpret_cast<T*>(bank_->chunk(c)) + head_ * chunk_elements;
    }

    const RetrievalBank* bank_;
    Index head_;
};

}  // namespace kernels
}  // namespace HYDRALM_NAMESPACE
