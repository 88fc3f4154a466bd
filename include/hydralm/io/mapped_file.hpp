// MappedFile: a whole file, read-only, in memory without being copied.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hydralm/core/descriptor.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Pages are read when they are first touched. Throws Error when the file is missing, a directory or
// otherwise not a regular file, unreadable, or empty. Whoever shortens the file while it is mapped
// ends the process (SIGBUS); the library itself replaces files by renaming, which leaves existing
// maps whole.
class MappedFile {
public:
    explicit MappedFile(const std::filesystem::path& path) : name_(path.string()) {
        const detail::Descriptor file(::open(name_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        if (!file) {
            const int error = errno;
            const bool limited = error == EMFILE || error == ENFILE;
            raise({.file = name_,
                   .expected = "a readable file",
                   .found = detail::system_error_text(error),
                   .fix = limited ? "raise that limit" : "check the path and its permissions"});
        }
        struct stat status{};
        if (::fstat(file.get(), &status) != 0) fail(errno);
        if (!S_ISREG(status.st_mode)) {
            raise({.file = name_,
                   .expected = "a regular file",
                   .found = S_ISDIR(status.st_mode) ? "a directory" : "a device, pipe or socket",
                   .fix = "give the path of the file itself"});
        }
        if (status.st_size == 0) {
            raise({.file = name_,
                   .expected = "a file with content",
                   .found = "an empty file",
                   .fix = "it was probably cut off while being copied: copy or write it again"});
        }
        size_ = static_cast<std::size_t>(status.st_size);
        void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
        if (address == MAP_FAILED) fail(errno);
        data_ = static_cast<const std::byte*>(address);
    }
    MappedFile(MappedFile&& other) noexcept
        : name_(std::move(other.name_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    MappedFile& operator=(MappedFile&& other) noexcept {
        std::swap(name_, other.name_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~MappedFile() {
        if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
    }

    // As given to the constructor.
    const std::string& name() const noexcept { return name_; }
    std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }

private:
    [[noreturn]] void fail(int error) const {
        raise({.file = name_,
               .expected = "a file that can be mapped",
               .found = detail::system_error_text(error),
               .fix = error == ENOMEM ? "raise the limit that binds, or use fewer or smaller files"
                                      : "copy it to a local disk"});
    }

    std::string name_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
