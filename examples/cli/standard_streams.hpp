// Standard streams: there, and written to.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <hydralm/core/error.hpp>

// Takes the number of each that the caller has closed, so that no file that is opened later gets
// it, and with it what is printed. Using them fails as before: input for writing, output for
// reading.
inline void hold_standard_streams() noexcept {
    for (const int stream : {0, 1, 2})
        if (::fcntl(stream, F_GETFD) < 0)  // and all lower numbers are taken
            (void)::open("/dev/null", stream == 0 ? O_WRONLY : O_RDONLY);
}

// What was printed, on its way. Throws Error when it cannot be written.
inline void flush_output() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
        throw hydralm::Error({.field = "standard output",
                              .expected = "to be writable",
                              .found = "an error",
                              .fix = "check the disk or pipe"});
}
