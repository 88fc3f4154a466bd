// The pool under a system that refuses threads.
#include "hydralm/core/parallel.hpp"

#include <sys/resource.h>

#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/unprivileged.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// How many threads the system gives now, at most 8, this one included.
int threads_to_have() {
    std::atomic<bool> end{false};
    std::vector<std::thread> threads;
    try {
        while (threads.size() < 7)
            threads.emplace_back([&] {
                while (!end) std::this_thread::yield();
            });
    } catch (const std::system_error&) {
    }
    end = true;
    for (std::thread& thread : threads) thread.join();
    return static_cast<int>(threads.size()) + 1;
}

// What a process of at most so many threads does whose pool, its first, should have 8: the sum of
// 0 … 99 by parallel_for and whether the pool has the threads there are; what set_num_threads says
// to more and to fewer; what was on stderr. No other test of this program makes a pool before the
// child is forked.
std::string under_limit(unsigned most) {
    return in_unprivileged_child([most] {
        int ends[2];
        if (::pipe(ends) != 0) return std::string("no child: no pipe");
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[1]);
        ::setenv("HYDRALM_NUM_THREADS", "8", 1);
        const ::rlimit limit{most, most};
        ::setrlimit(RLIMIT_NPROC, &limit);
        const int given = threads_to_have();
        if (given == 8) return std::string("no child: no limit of threads here");
        std::atomic<Index> sum{0};
        parallel_for(100, [&](Index i) { sum += i; });
        std::string text = "sum " + std::to_string(sum);
        text += num_threads() == given ? ", all of them" : ", others";
        try {
            set_num_threads(8);
        } catch (const std::system_error&) {
            text += ", throws";
        }
        for (const int fewer : {given, 1, given}) {
            set_num_threads(fewer);
            text += num_threads() == fewer ? ", resized" : ", not resized";
        }
        if (threads_to_have() != 1) return std::string("no child: others end and start threads");
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
        CHECK(
            text.starts_with("sum 4950, all of them, throws, resized, resized, resized\n"
                             "hydralm: threads: expected 8, found "));
        CHECK(
            text.ends_with("; using these, set HYDRALM_NUM_THREADS or raise the limit of "
                           "threads\n"));
        CHECK(std::count(text.begin(), text.end(), '\n') == 2);
    }
}
