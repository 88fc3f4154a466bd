// MappedPages: the chunk pages of banks in a file instead of the heap, with a bound on
// what is resident.
//
// The file has no name from the moment it is made: it goes when the last state that uses it goes,
// or the process does, however it ends. Space is reserved before it is mapped, so a full disk is an
// Error at the beginning of a call, never a signal inside one.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/descriptor.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/state/bank_policy.hpp"

namespace HYDRALM_NAMESPACE {

// auto state = model.new_state(256, {.pages = std::make_shared<MappedPages>(directory, budget)});
//
// Pages hold what they would hold on the heap: the same bits. Thread-safe.
class MappedPages : public PageSource {
public:
    // directory: where the file is made, on a disk with room for the streams. budget: bytes of
    // pages that stay resident between calls; a call may add what its own tokens read. Throws Error
    // for a directory that takes no file, or a budget below a megabyte.
    MappedPages(const std::string& directory, Index budget)
        : file_(open_unnamed(directory)), budget_(budget) {
        if (budget < Index{1} << 20)
            raise({.field = "budget",
                   .expected = "at least 1048576 bytes",
                   .found = std::to_string(budget),
                   .fix = "give the bank more resident memory"});
    }
    MappedPages(const MappedPages&) = delete;
    MappedPages& operator=(const MappedPages&) = delete;

    // Pages that were given back are used again. Throws Error when the disk has no room; what was
    // taken before stays whole.
    std::shared_ptr<std::byte> take(Index bytes) override {
        const std::lock_guard lock(mutex_);
        expect_locked(bytes);
        std::shared_ptr<Segment>& current = current_of(bytes);
        std::byte* page = current == nullptr ? nullptr : current->take();
        for (auto weak = segments_.begin(); page == nullptr && weak != segments_.end(); ++weak) {
            const auto segment = weak->lock();
            if (segment == nullptr || segment->page_bytes() != bytes) continue;
            page = segment->take();
            if (page != nullptr) current = segment;
        }
        if (page == nullptr) {
            current = next_segment(bytes);
            page = current->take();
        }
        // Counted page by page.
        return {page, [segment = current](std::byte* p) noexcept { segment->give_back(p); }};
    }

    void expect(Index bytes) noexcept override {
        const std::lock_guard lock(mutex_);
        expect_locked(bytes);
    }

    void release() noexcept override {
        const std::lock_guard lock(mutex_);
        if (touched_ > budget_) evict();
    }

    Index budget() const noexcept override { return budget_; }

    // Bytes of disk that are reserved now.
    Index file_bytes() const {
        struct stat status{};
        ::fstat(file_->descriptor(), &status);
        return static_cast<Index>(status.st_blocks) * 512;
    }

private:
    static constexpr Index segment_bytes = Index{1} << 24;

    // Which parts of the file are in use.
    class File {
    public:
        File(std::string name, detail::Descriptor descriptor)
            : name_(std::move(name)), descriptor_(std::move(descriptor)) {}
        const std::string& name() const noexcept { return name_; }  // it had
        int descriptor() const noexcept { return descriptor_.get(); }
        Index used() const noexcept { return used_.load(std::memory_order_relaxed); }

        // Where size bytes begin that nobody uses, for give_back.
        Index take(Index size) {
            const std::lock_guard lock(mutex_);
            const auto same = std::find_if(free_.begin(), free_.end(),
                                           [&](const Part& part) { return part.size == size; });
            Index offset = end_;
            if (same != free_.end()) {
                offset = same->offset;
                free_.erase(same);
            } else {
                free_.reserve(++parts_);
                end_ += size;
            }
            used_ += size;
            return offset;
        }
        void give_back(Index offset, Index size) noexcept {
            ::fallocate(descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
            const std::lock_guard lock(mutex_);
            free_.push_back({offset, size});  // there is room for all
            used_ -= size;
        }

    private:
        struct Part {
            Index offset, size;
        };
        std::string name_;
        detail::Descriptor descriptor_;
        std::mutex mutex_;
        std::vector<Part> free_;
        std::size_t parts_ = 0;  // there ever were
        Index end_ = 0;
        std::atomic<Index> used_{0};
    };
    // A mapped part of the file, in pages of one size; gives its memory and its disk back.
    class Segment {
    public:
        // Throws Error when the disk has no room, nothing taken.
        Segment(std::shared_ptr<File> file, Index page_bytes)
            : file_(std::move(file)), page_bytes_(page_bytes) {
            free_.reserve(static_cast<std::size_t>(size() / stride()));
            offset_ = file_->take(size());
            int error = 0;
            do error = ::posix_fallocate(file_->descriptor(), offset_, size());
            while (error == EINTR);
            if (error != 0) {
                file_->give_back(offset_, size());
                fail(file_->name(), "room for more of the bank", error,
                     "free some space, or choose another directory");
            }
            void* const data =
                ::mmap(nullptr, static_cast<std::size_t>(size()), PROT_READ | PROT_WRITE,
                       MAP_SHARED, file_->descriptor(), offset_);
            if (data == MAP_FAILED) {
                error = errno;
                file_->give_back(offset_, size());
                fail(file_->name(), "to map more of the bank", error,
                     "raise vm.max_map_count or the limit of address space, or keep fewer streams");
            }
            data_ = static_cast<std::byte*>(data);
        }
        Segment(const Segment&) = delete;
        Segment& operator=(const Segment&) = delete;
        ~Segment() {
            ::munmap(data_, static_cast<std::size_t>(size()));
            file_->give_back(offset_, size());
        }

        Index page_bytes() const noexcept { return page_bytes_; }

        Index size() const noexcept {
            return round_up(std::max(stride(), segment_bytes), Index{1} << 16);
        }
        // A page of zeros, or null where there is none.
        std::byte* take() noexcept {
            std::byte* page = nullptr;
            {
                const std::lock_guard lock(mutex_);
                if (free_.empty()) {
                    if (used_ + stride() > size()) return nullptr;
                    return data_ + std::exchange(used_, used_ + stride());
                }
                page = free_.back();
                free_.pop_back();
            }
            std::fill_n(page, page_bytes_, std::byte{0});
            return page;
        }
        void give_back(std::byte* page) noexcept {
            const std::lock_guard lock(mutex_);
            free_.push_back(page);  // there is room for all
        }
        // Lets go of what is resident; its contents stay.
        void evict() const noexcept {
            ::madvise(data_, static_cast<std::size_t>(size()), MADV_DONTNEED);
        }

    private:
        Index stride() const noexcept {
            return round_up(page_bytes_, static_cast<Index>(alignment));
        }
        std::shared_ptr<File> file_;
        Index page_bytes_, offset_ = 0, used_ = 0;
        std::byte* data_ = nullptr;
        std::mutex mutex_;
        std::vector<std::byte*> free_;  // pages given back
    };

    [[noreturn]] static void fail(const std::string& file, const char* expected, int error,
                                  const char* fix) {
        raise({.file = file,
               .field = "bank",
               .expected = expected,
               .found = detail::system_error_text(error),
               .fix = fix});
    }
    static std::shared_ptr<File> open_unnamed(const std::string& directory) {
        std::string name = directory + "/hydralm-bank-XXXXXX";
        detail::Descriptor descriptor(::mkostemp(name.data(), O_CLOEXEC));
        if (!descriptor)
            fail(directory, "a directory to write a bank to", errno,
                 "create the directory, or choose one you may write");
        ::unlink(name.c_str());
        return std::make_shared<File>(std::move(name), std::move(descriptor));
    }
    std::shared_ptr<Segment> next_segment(Index page_bytes) {
        std::erase_if(segments_, [](const auto& weak) { return weak.expired(); });
        segments_.reserve(segments_.size() + 1);
        auto segment = std::make_shared<Segment>(file_, page_bytes);
        segments_.push_back(segment);
        return segment;
    }
    std::shared_ptr<Segment>& current_of(Index page_bytes) {
        for (auto& segment : current_)
            if (segment != nullptr && segment->page_bytes() == page_bytes) return segment;
        for (auto& segment : current_)
            if (segment == nullptr) return segment;
        return current_.emplace_back();
    }
    void expect_locked(Index bytes) noexcept {
        if (file_->used() <= budget_) return;  // all of it may stay
        if (touched_ + bytes > budget_) evict();
        touched_ += bytes;
    }
    void evict() noexcept {
        for (const auto& weak : segments_)
            if (const auto segment = weak.lock()) segment->evict();
        touched_ = 0;
    }

    std::shared_ptr<File> file_;
    Index budget_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<Segment>> current_;  // one of each page size
    std::vector<std::weak_ptr<Segment>> segments_;
    Index touched_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
