// A child process without privileges, for what root may do and others may not.
#pragma once

#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <string>

namespace hydralm::test {

// What action returns, or what() of what it throws, in a child process; as user 65534 when this one
// is root. "no child: ..." where that cannot be set up, "status ...: " and what was returned so far
// when the child did not end by itself. Assertions in action are lost.
template <class Action>
std::string in_unprivileged_child(const Action& action) {
    int ends[2];
    if (::pipe(ends) != 0) return "no child: no pipe";
    const ::pid_t child = ::fork();
    if (child < 0) return "no child: no fork";
    if (child == 0) {
        constexpr unsigned nobody = 65534;
        std::string text;
        if (::geteuid() == 0 &&
            (::setgroups(0, nullptr) != 0 || ::setgid(nobody) != 0 || ::setuid(nobody) != 0)) {
            text = "no child: this root may not become another user";
        } else {
            try {
                text = action();
            } catch (const std::exception& error) {
                text = error.what();
            }
        }
        const auto written = ::write(ends[1], text.data(), text.size());
        ::_exit(written == static_cast<::ssize_t>(text.size()) ? 0 : 1);
    }
    ::close(ends[1]);
    std::string text;
    char part[4096];
    for (::ssize_t n = 1; n > 0 || (n < 0 && errno == EINTR);)
        if ((n = ::read(ends[0], part, sizeof(part))) > 0)
            text.append(part, static_cast<std::size_t>(n));
    ::close(ends[0]);
    int status = -1;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status == 0 ? text : "status " + std::to_string(status) + ": " + text;
}

}  // namespace hydralm::test
