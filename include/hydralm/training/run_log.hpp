// RunLog: a file of lines that grows while training runs.
#pragma once

#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {

class RunLog {
public:
    // Opens the file, new or existing, to append to it. Throws Error when it is not a regular file
    // or cannot be written; never waits for another process.
    explicit RunLog(const std::filesystem::path& path) : name_(path.string()) {
        std::error_code unknown;
        const auto status = std::filesystem::status(path, unknown);
        if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
            throw Error({.file = name_,
                         .expected = "a log to append to, new or existing",
                         .found = std::filesystem::is_directory(status)
                                      ? "a directory"
                                      : "a device, pipe or socket",
                         .fix = "give the path of a file"});
        file_ = detail::Descriptor(
            ::open(name_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0666));
        if (!file_)
            throw Error({.file = name_,
                         .expected = "a log to append to, new or existing",
                         .found = detail::system_error_text(errno),
                         .fix = "create its directory, or choose a path you may write"});
    }

    // Appends a line, whole or not at all. Throws Error when the disk is full or fails.
    void append(std::string_view line) {
        const ::off_t end = ::lseek(file_.get(), 0, SEEK_END);
        while (!line.empty()) {
            const ::ssize_t n = ::write(file_.get(), line.data(), line.size());
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail(n == 0 ? EIO : errno, end);
            line.remove_prefix(static_cast<std::size_t>(n));
        }
    }

private:
    [[noreturn]] void fail(int error, ::off_t end) {
        const bool cut = ::ftruncate(file_.get(), end) == 0;
        throw Error({.file = name_,
                     .expected = "to append a line",
                     .found = detail::system_error_text(error) + (cut ? "" : ", half a line"),
                     .fix = "free some space or choose another path, then resume the run"});
    }

    std::string name_;
    detail::Descriptor file_;
};

}  // namespace HYDRALM_NAMESPACE
