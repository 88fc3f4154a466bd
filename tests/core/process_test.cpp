// The pool in a process that forks, and at the end of one.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "hydralm/core/parallel.hpp"
#include "support/catch.hpp"

using namespace hydralm;

namespace {

// How a child process ends that does action and then returns from main; −1: by a signal, which
// comes after a minute at the latest.
template <class Action>
int status_of_child(const Action& action) {
    const ::pid_t child = ::fork();
    if (child == 0) {
        ::alarm(60);
        action();
        std::exit(0);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Whether so many threads work on one job: a task waits until all have begun.
bool work_together(int threads) {
    std::atomic<int> begun{0}, together{0};
    const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    parallel_for(threads, [&](Index) {
        ++begun;
        while (begun < threads && std::chrono::steady_clock::now() < late)
            std::this_thread::yield();
        if (begun == threads) ++together;
    });
    return together == threads;
}

Index sum_to(Index count) {
    std::atomic<Index> sum{0};
    parallel_for(count, [&](Index i) { sum += i; });
    return sum;
}

}  // namespace

TEST_CASE("after a fork, child and parent have the threads they had", "[core]") {
    const int status = status_of_child([] {
        set_num_threads(3);
        if (!work_together(3)) std::exit(1);
        const int of_child = status_of_child([] {
            if (num_threads() != 3 || !work_together(3)) std::exit(2);
            if (status_of_child([] {
                    if (!work_together(3)) std::exit(3);
                }) != 0)
                std::exit(4);
            set_num_threads(2);
            if (num_threads() != 2 || !work_together(2)) std::exit(5);
        });
        if (of_child != 0) std::exit(of_child);
        if (num_threads() != 3 || !work_together(3)) std::exit(6);
        if (status_of_child([] {}) != 0) std::exit(7);
    });
    CHECK(status == 0);
}

TEST_CASE("a process forks while another of its threads computes", "[core]") {
    const int status = status_of_child([] {
        set_num_threads(2);
        std::atomic<bool> end{false};
        std::atomic<int> wrong{0};
        std::thread other([&] {
            while (!end) wrong += sum_to(100) != 4950;
        });
        for (int i = 0; i < 20; ++i)
            wrong += status_of_child([] {
                         set_num_threads(1);  // ThreadSanitizer forbids such a child threads
                         // Not by exit: LeakSanitizer would look for the parent's other thread in
                         // the child, and now and then for ever.
                         ::_exit(sum_to(100) != 4950);
                     }) != 0;
        end = true;
        other.join();
        if (wrong != 0) std::exit(2);
    });
    CHECK(status == 0);
}

TEST_CASE("static objects and detached threads compute to the end of the process", "[core]") {
    struct Late {
        ~Late() {
            if (work_together(2)) ::_exit(11);
        }
    };
    CHECK(status_of_child([] {
              static const Late late;  // before the threads, so destroyed after what they need
              set_num_threads(2);
              sum_to(100);
          }) == 11);
    CHECK(status_of_child([] {
              set_num_threads(2);
              std::atomic<bool> begun{false};
              std::thread([&] {
                  for (;;) {
                      sum_to(1000);
                      begun = true;
                  }
              }).detach();
              while (!begun) std::this_thread::yield();
              std::exit(0);  // its variables live on
          }) == 0);
}
