// Standard streams: there, and written to.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <hydralm/core/error.hpp>

// Opens /dev/null for each that the caller has closed, so that no file that is opened later takes
// its number, and with it what is printed.
inline void open_standard_streams() noexcept {
    for (const int stream : {0, 1, 2})
        if (::fcntl(stream, F_GETFD) < 0) (void)::open("/dev/null", O_RDWR);  // the lowest free one
}

// What was printed, on its way. Throws Error when it cannot be written.
inline void flush_output() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
        throw hydralm::Error({.field = "standard output",
                              .expected = "to be writable",
                              .found = "an error",
                              .fix = "check the disk or pipe"});
}
