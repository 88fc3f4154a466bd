// The pool under a system that refuses threads.
#include "hydralm/core/parallel.hpp"

#include <sys/resource.h>

#include <string>
#include <system_error>

#include "support/catch.hpp"
#include "support/unprivileged.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// What a process of at most so many threads does whose pool, its first, should have 8: the sum of
// 0 … 99 by parallel_for and whether the pool fits the limit; whether set_num_threads throws; what
// was on stderr. No other test of this program makes a pool before the child is forked.
std::string under_limit(unsigned most) {
    return in_unprivileged_child([most] {
        int ends[2];
        if (::pipe(ends) != 0) return std::string("no child: no pipe");
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[1]);
        ::setenv("HYDRALM_NUM_THREADS", "8", 1);
        const ::rlimit limit{most, most};
        ::setrlimit(RLIMIT_NPROC, &limit);
        std::atomic<Index> sum{0};
        parallel_for(100, [&](Index i) { sum += i; });
        std::string text = "sum " + std::to_string(sum);
        if (num_threads() == 8) return std::string("no child: no limit of threads here");
        text += num_threads() <= static_cast<int>(most) ? ", fits" : ", too many";
        try {
            set_num_threads(8);
        } catch (const std::system_error&) {
            text += ", throws";
        }
        set_num_threads(1);
        ::close(STDERR_FILENO);
        char said[1000];
        const auto n = ::read(ends[0], said, sizeof(said));
        return text + "\n" + std::string(said, static_cast<std::size_t>(std::max<::ssize_t>(n, 0)));
    });
}

}  // namespace

TEST_CASE("the default pool takes the threads that the system gives", "[core]") {
    for (const unsigned most : {1U, 3U}) {
        const std::string text = under_limit(most);
        if (text.starts_with("no child")) {
            WARN("not tested: " << text);
            return;
        }
        INFO(text);
        CHECK(text.starts_with("sum 4950, fits, throws\nhydralm: threads: expected 8, found "));
        CHECK(
            text.ends_with("; using these, set HYDRALM_NUM_THREADS or raise the limit of "
                           "threads\n"));
        CHECK(std::count(text.begin(), text.end(), '\n') == 2);
    }
}
