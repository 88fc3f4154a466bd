// RunLog: a file of lines that grows while training runs.
#pragma once

#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {

class RunLog {
public:
    // Opens the file, new or existing, to append to it; or a device, or a pipe that is read
    // already. Throws Error when it cannot be written; does not wait.
    explicit RunLog(const std::filesystem::path& path)
        : name_(path.string()),
          file_(
              ::open(name_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0666)) {
        if (file_ && ::fcntl(file_.get(), F_SETFL, O_APPEND) == 0) return;
        const int error = errno;
        raise({.file = name_,
               .expected = "a log to append to, new or existing",
               .found = detail::system_error_text(error),
               .fix = "create its directory, or choose a path you may write"});
    }

    // Appends a line, whole or not at all. Throws Error when the disk is full or fails.
    void append(std::string_view line) {
        const ::off_t end = ::lseek(file_.get(), 0, SEEK_END);
        for (std::size_t written = 0; written < line.size();) {
            const ::ssize_t n = ::write(file_.get(), line.data() + written, line.size() - written);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                const int error = n == 0 ? EIO : errno;
                fail(error, written == 0 || ::ftruncate(file_.get(), end) == 0);
            }
            written += static_cast<std::size_t>(n);
        }
    }

private:
    [[noreturn]] void fail(int error, bool whole) const {
        raise({.file = name_,
               .expected = "to append a line",
               .found = detail::system_error_text(error) + (whole ? "" : ", half a line"),
               .fix = "free some space or choose another path, then resume the run"});
    }

    std::string name_;
    detail::Descriptor file_;
};

}  // namespace HYDRALM_NAMESPACE
