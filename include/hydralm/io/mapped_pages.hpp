// MappedPages: the chunk pages of retrieval banks in a file instead of the heap, with a bound on
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
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/io/mapped_file.hpp"
#include "hydralm/kernels/retrieval/bank.hpp"

namespace HYDRALM_NAMESPACE {

// auto state = model.new_state(256, {.pages = std::make_shared<MappedPages>(directory, budget)});
//
// Pages hold what they would hold on the heap: the same bits. Thread-safe.
class MappedPages : public RetrievalPages {
public:
    // directory: where the file is made, on a disk with room for the streams. budget: bytes of
    // pages that stay resident between calls; a call may add what its own tokens read. Throws Error
    // for a directory that takes no file, or a budget below a megabyte.
    MappedPages(const std::filesystem::path& directory, Index budget)
        : file_(open_unnamed(directory)), budget_(budget) {
        if (budget < Index{1} << 20)
            throw Error({.field = "budget",
                         .expected = "at least 1048576 bytes",
                         .found = std::to_string(budget),
                         .fix = "give the bank more resident memory"});
    }
    MappedPages(const MappedPages&) = delete;
    MappedPages& operator=(const MappedPages&) = delete;

    // Throws Error when the disk has no room; what was taken before stays whole.
    std::shared_ptr<std::byte> take(Index bytes) override {
        const std::lock_guard lock(mutex_);
        if (current_ == nullptr || used_ + bytes > current_->size) {
            current_ = next_segment(bytes);
            used_ = 0;
        }
        std::byte* const page = current_->data + used_;
        used_ += round_up(bytes, static_cast<Index>(alignment));
        return {page, [segment = current_](std::byte*) noexcept {}};  // counted page by page
    }

    void expect(Index bytes) noexcept override {
        const std::lock_guard lock(mutex_);
        if (end_ <= budget_) return;  // all of it may stay
        if (touched_ + bytes > budget_) {
            for (const auto& weak : segments_)
                if (const auto segment = weak.lock())
                    ::madvise(segment->data, static_cast<std::size_t>(segment->size),
                              MADV_DONTNEED);
            touched_ = 0;
        }
        touched_ += bytes;
    }

    Index budget() const noexcept override { return budget_; }

    // Bytes of disk that are reserved now.
    Index file_bytes() const {
        struct stat status{};
        ::fstat(file_->descriptor.get(), &status);
        return static_cast<Index>(status.st_blocks) * 512;
    }

private:
    static constexpr Index segment_bytes = Index{1} << 24;

    struct File {
        std::string name;  // it had
        detail::Descriptor descriptor;
    };
    // A mapped part of the file; gives its memory and its disk back.
    struct Segment {
        std::shared_ptr<File> file;
        std::byte* data;
        Index offset, size;
        Segment(std::shared_ptr<File> of, std::byte* at, Index from, Index bytes)
            : file(std::move(of)), data(at), offset(from), size(bytes) {}
        Segment(const Segment&) = delete;
        Segment& operator=(const Segment&) = delete;
        ~Segment() {
            ::munmap(data, static_cast<std::size_t>(size));
            ::fallocate(file->descriptor.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                        size);
        }
    };

    [[noreturn]] static void fail(const std::string& file, const char* expected, int error) {
        throw Error({.file = file,
                     .field = "bank",
                     .expected = expected,
                     .found = detail::system_error_text(error),
                     .fix = "free some space, or choose another directory"});
    }
    static std::shared_ptr<File> open_unnamed(const std::filesystem::path& directory) {
        std::string name = (directory / "hydralm-bank-XXXXXX").string();
        detail::Descriptor descriptor(::mkostemp(name.data(), O_CLOEXEC));
        if (!descriptor) fail(directory.string(), "a directory to write a bank to", errno);
        ::unlink(name.c_str());
        return std::make_shared<File>(File{name, std::move(descriptor)});
    }
    std::shared_ptr<Segment> next_segment(Index least) {
        const Index size = round_up(std::max(least, segment_bytes), Index{1} << 16);
        if (const int error = ::posix_fallocate(file_->descriptor.get(), end_, size); error != 0)
            fail(file_->name, "room for more of the bank", error);
        void* const data = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE,
                                  MAP_SHARED, file_->descriptor.get(), end_);
        if (data == MAP_FAILED) fail(file_->name, "to map more of the bank", errno);
        auto segment = std::make_shared<Segment>(file_, static_cast<std::byte*>(data), end_, size);
        std::erase_if(segments_, [](const auto& weak) { return weak.expired(); });
        segments_.push_back(segment);
        end_ += size;
        return segment;
    }

    std::shared_ptr<File> file_;
    Index budget_;
    std::mutex mutex_;
    std::shared_ptr<Segment> current_;
    std::vector<std::weak_ptr<Segment>> segments_;
    Index used_ = 0, end_ = 0, touched_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
