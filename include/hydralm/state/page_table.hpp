// PageTable: pages of one size, shared by copies of the table until one of them writes.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/state/bank_policy.hpp"

namespace HYDRALM_NAMESPACE::detail {

// Pages first, first + 1, … on the heap or from a source.
class PageTable {
public:
    PageTable() = default;
    // on_heap: bytes that are taken from the heap before the source is asked.
    explicit PageTable(Index page_bytes, std::shared_ptr<PageSource> source = nullptr,
                       Index on_heap = 0)
        : page_bytes_(page_bytes), source_(std::move(source)), on_heap_(on_heap) {}

    Index page_bytes() const noexcept { return page_bytes_; }
    bool has_source() const noexcept { return source_ != nullptr; }
    // Of pages that came from it.
    Index source_bytes() const noexcept {
        return has_source() ? std::max<Index>(0, bytes() - on_heap_) : 0;
    }
    Index end() const noexcept { return first_ + count_; }
    PageView view() const noexcept { return {places_.data(), first_}; }
    std::byte* at(Index i) const noexcept { return view().page(i); }
    // Of all memory there is, pages that wait to be used again included.
    Index bytes() const noexcept { return static_cast<Index>(pages_.size()) * page_bytes_; }

    // Makes pages [from, to] exist and be nobody else's; from ≤ end().
    void own(Index from, Index to) {
        for (; end() <= to; ++count_)
            if (count_ == static_cast<Index>(pages_.size())) {
                places_.resize(pages_.size() + 1);
                pages_.push_back(new_page());
                places_.back() = pages_.back().get();
            } else if (const Page& page = slot(end()); shared(page)) {
                put(end(), new_page());
            } else {
                std::fill_n(page.get(), page_bytes_, std::byte{0});
            }
        for (Index i = from; i <= to; ++i) {
            if (!shared(slot(i))) continue;
            Page copy = new_page();
            std::copy_n(at(i), page_bytes_, copy.get());
            put(i, std::move(copy));
        }
    }
    // Forgets the pages before i; their memory waits to be used again.
    void drop_before(Index i) noexcept {
        if (i <= first_) return;
        const Index dropped = std::min(i - first_, count_);
        std::rotate(pages_.begin(), pages_.begin() + dropped, pages_.begin() + count_);
        std::rotate(places_.begin(), places_.begin() + dropped, places_.begin() + count_);
        count_ -= dropped;
        first_ = i;
    }
    // Forgets all pages, and gives their memory back.
    void clear() noexcept {
        first_ = count_ = 0;
        pages_.clear();
        places_.clear();
    }

private:
    using Page = std::shared_ptr<std::byte>;

    Page& slot(Index i) noexcept { return pages_[static_cast<std::size_t>(i - first_)]; }
    void put(Index i, Page page) noexcept {
        places_[static_cast<std::size_t>(i - first_)] = page.get();
        slot(i) = std::move(page);
    }
    static bool shared(const Page& page) noexcept {
        if (page.use_count() > 1) return true;
        // Taking a count and giving it back comes after whoever gave the last one back, and so
        // after that owner's reads; looking at the count does not.
        const Page mine = page;  // NOLINT(performance-unnecessary-copy-initialization)
        return false;
    }
    Page new_page() const {
        if (has_source() && bytes() >= on_heap_) return source_->take(page_bytes_);
        const auto buffer = std::make_shared<AlignedBuffer<std::byte>>(page_bytes_);
        return {buffer, buffer->data()};
    }

    Index page_bytes_ = 0;
    std::shared_ptr<PageSource> source_;
    Index on_heap_ = 0;
    Index first_ = 0, count_ = 0;
    std::vector<Page> pages_;         // count_ pages, then those that wait
    std::vector<std::byte*> places_;  // of each
};

}  // namespace HYDRALM_NAMESPACE::detail
