// AtomicFile: a file that appears whole or not at all.
//
// Bytes go to a temporary file in the same directory; commit() brings them to the disk and renames
// it over the target. Whatever goes wrong before that, the target is what it was and the temporary
// file is gone.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <climits>  // NAME_MAX
#include <span>

#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {

class AtomicFile {
public:
    // Opens the temporary file. A target that is a symbolic link stays one: the file it points to
    // is replaced, and an existing file's permissions are kept. Throws Error for no path, when the
    // directory is missing or not writable, and when the target exists and is not a regular file or
    // may not be written.
    explicit AtomicFile(const std::filesystem::path& path) : name_(path.string()) {
        std::error_code failure;
        const auto status = std::filesystem::status(path, failure);
        target_ = behind_links(path);
        if (target_.empty()) {
            raise({.file = name_,
                   .expected = "the path of a file",
                   .found = name_.empty() ? "none" : "symbolic links in a circle",
                   .fix = "name a file in a directory you may write"});
        }
        if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
            raise({.file = name_,
                   .expected = "a file to write, new or existing",
                   .found = std::filesystem::is_directory(status) ? "a directory"
                                                                  : "a device, pipe or socket",
                   .fix = "give the path of a file"});
        }
        if (std::filesystem::exists(status) &&
            ::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0) {
            const int refusal = errno;
            raise({.file = name_,
                   .expected = "a file that may be replaced",
                   .found = detail::system_error_text(refusal),
                   .fix = "allow writing to it and its disk, or choose another path"});
        }
        int error = failure == std::errc::filename_too_long ? ENAMETOOLONG : EEXIST;
        for (int attempt = 0; error == EEXIST && attempt < 16; ++attempt) {
            temporary_ = temporary_beside(target_);
            file_ = detail::Descriptor(
                ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
            error = file_ ? 0 : errno;
        }
        if (error != 0) {
            const bool too_long = error == ENAMETOOLONG;
            raise({.file = name_,
                   .expected =
                       too_long ? "a name that a file can have" : "a directory that can be written",
                   .found = detail::system_error_text(error),
                   .fix = too_long ? "choose a shorter one"
                                   : "create the directory, or choose one you may write"});
        }
        if (std::filesystem::exists(status))
            std::filesystem::permissions(temporary_, status.permissions(), failure);  // best effort
    }
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    ~AtomicFile() {
        if (!temporary_.empty()) ::unlink(temporary_.c_str());
    }

    const std::string& name() const noexcept { return name_; }

    // Appends. Throws Error when the disk is full or fails.
    void write(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const ::ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail(n == 0 ? EIO : errno);
            bytes = bytes.subspan(static_cast<std::size_t>(n));
            written_ += n;
        }
    }
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

    Index bytes_written() const noexcept { return written_; }

    // Makes the file appear under its name, whole and on the disk. Once, last. Throws Error as
    // write does.
    void commit() {
        if (::fsync(file_.get()) != 0) fail(errno);
        if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
        temporary_.clear();
        const auto directory =
            target_.has_parent_path() ? target_.parent_path() : std::filesystem::path(".");
        const detail::Descriptor opened(
            ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (opened)
            ::fsync(opened.get());  // so that the new name survives a power cut; not every file
                                    // system can
    }

private:
    // What path stands for when symbolic links are followed, there or not; empty for a circle.
    static std::filesystem::path behind_links(std::filesystem::path path) {
        constexpr int most = 40;  // as the system follows
        std::error_code failure;
        for (int i = 0; i <= most; ++i) {
            const auto next = std::filesystem::read_symlink(path, failure);
            if (failure) return path;
            path = path.parent_path() / next;  // next alone when it is absolute
        }
        return {};
    }

    // NAME.PID-NUMBER.tmp, of a NAME cut where no name may be so long.
    static std::filesystem::path temporary_beside(const std::filesystem::path& target) {
        std::string ending(".");  // by append: g++ 12 warns of what it makes of "." + …
        ending.append(std::to_string(::getpid())).append("-");
        ending.append(std::to_string(unique_number())).append(".tmp");
        std::string name = target.filename().string();
        name.resize(std::min(name.size(), NAME_MAX - ending.size()));
        return target.parent_path() / name.append(ending);
    }

    static std::uint64_t unique_number() noexcept {
        static std::atomic<std::uint64_t> calls{0};
        const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
        return static_cast<std::uint64_t>(now) + calls.fetch_add(1);
    }

    [[noreturn]] void fail(int error) const {
        const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
        raise({.file = name_,
               .expected = "to write the file",
               .found = detail::system_error_text(error) + " after " + std::to_string(written_) +
                        " bytes",
               .fix = full ? "free some space or choose another disk; nothing was replaced"
                           : "check the disk; nothing was replaced"});
    }

    std::string name_;
    std::filesystem::path target_;
    std::filesystem::path temporary_;  // empty: committed
    detail::Descriptor file_;
    Index written_ = 0;
};

// Writes bytes to path, atomically. Throws Error.
inline void write_file(const std::filesystem::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

}  // namespace HYDRALM_NAMESPACE
