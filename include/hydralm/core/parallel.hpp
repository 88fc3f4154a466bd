// parallel_for: independent tasks over a pool of threads, with the same numbers for any number of
// threads.
//
// The pool is process-wide and sized by set_num_threads or HYDRALM_NUM_THREADS (default: the
// hardware; fewer, with a warning, when the system refuses threads). It lives as long as the
// process: destructors of static objects and detached threads still have it. Around fork it has no
// threads; parent and child start theirs again when they compute. A task writes only what belongs
// to it, so results cannot depend on which thread ran it. Calls from inside a task, and calls while
// another thread uses the pool, run on the calling thread alone.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

#if __has_include(<pthread.h>)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace HYDRALM_NAMESPACE {
namespace detail {

inline void spin_pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

inline int default_num_threads() noexcept {
    if (const char* text = std::getenv("HYDRALM_NUM_THREADS")) {
        char* end = nullptr;
        const long n = std::strtol(text, &end, 10);
        if (end != text && *end == '\0' && n >= 1 && n <= 1024) return static_cast<int>(n);
        std::fprintf(stderr,
                     "hydralm: HYDRALM_NUM_THREADS: expected an integer in [1, 1024], found '%s'; "
                     "using every core\n",
                     text);
    }
    return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 1024U));
}

// One job at a time: tasks 0 … count−1 are claimed from a shared counter. Workers spin for a
// fraction of a millisecond between jobs (a decoded token is dozens of short jobs), then sleep. A
// job never waits for a worker that has not joined it, so a busy machine costs a thread's help, not
// its turn on the processor.
class ThreadPool {
public:
    using Task = void (*)(const void* context, Index task);

    ThreadPool() = default;
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // Threads that run a job, the caller included. Starts those that are missing.
    int size() noexcept {
        if (!started_.load(std::memory_order_acquire)) {
            const std::lock_guard lock(submit_);
            start();
        }
        return threads_.load(std::memory_order_relaxed);
    }

    // Makes it a pool of so many threads, while no job runs. Throws when the system refuses one;
    // those that started stay.
    void resize(int threads) {
        const std::lock_guard lock(submit_);
        if (threads < present()) stop();
        grow(threads);
    }

    // Between these two no job runs and the pool has no threads.
    void pause() noexcept {
        submit_.lock();
        started_.store(false, std::memory_order_release);
        stop();
    }
    void resume() noexcept { submit_.unlock(); }

    // False when another thread is using the pool, or none helps: the caller then runs the tasks
    // itself.
    bool run(Index count, Task task, const void* context) noexcept {
        if (size() == 1 || !submit_.try_lock()) return false;
        start();  // another thread may just have forked
        task_ = task;
        context_ = context;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        const std::uint64_t before = job_.load(std::memory_order_relaxed);  // closed, nobody inside
        job_.store(before + next_job + open, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) > 0) {
            {
                const std::lock_guard lock(sleep_);
            }
            wake_.notify_all();
        }
        claim();
        job_.fetch_and(~open, std::memory_order_acq_rel);
        for (int spins = 0; (job_.load(std::memory_order_acquire) & inside_mask) > 0; ++spins) {
            if (spins < spin_limit) spin_pause();
            else std::this_thread::yield();
        }
        submit_.unlock();
        return true;
    }

    // True on a thread that is running a task: nested calls stay on it.
    static bool& inside() noexcept {
        thread_local bool value = false;
        return value;
    }

private:
    static constexpr int spin_limit = 4000;
    // job_: the number of the job, whether it can be joined, how many workers are inside.
    static constexpr std::uint64_t next_job = std::uint64_t{1} << 32;
    static constexpr std::uint64_t open = std::uint64_t{1} << 31;
    static constexpr std::uint64_t inside_mask = open - 1;

    void claim() noexcept {
        for (Index i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1)) task_(context_, i);
    }

    int present() const noexcept { return static_cast<int>(workers_.size()) + 1; }

    void grow(int threads) {
        const AtEnd started([this] {
            threads_.store(present(), std::memory_order_relaxed);
            started_.store(true, std::memory_order_release);
        });
        workers_.reserve(static_cast<std::size_t>(threads - 1));
        while (present() < threads) workers_.emplace_back([this] { work(); });
    }

    // All threads at first, and after a fork; as many as the system gives (without exceptions, the
    // program ends where it refuses one).
    void start() noexcept {
        if (started_.load(std::memory_order_relaxed)) return;
        const int known = threads_.load(std::memory_order_relaxed);
        const int threads = known > 0 ? known : default_num_threads();
        attempt<std::exception>(
            [&] { grow(threads); },
            [&](const std::exception& refusal) {
                std::fprintf(stderr,
                             "hydralm: threads: expected %d, found %d (%s); using these, set "
                             "HYDRALM_NUM_THREADS or raise the limit of threads\n",
                             threads, present(), refusal.what());
            });
    }

    void stop() noexcept {
        {
            const std::lock_guard lock(sleep_);
            stopping_.store(true);
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
        workers_.clear();
        stopping_.store(false);
    }

    // Whether there is a job to join that is not the one with this number.
    bool joinable(std::uint64_t job, std::uint64_t seen) const noexcept {
        return (job & open) != 0 && job / next_job != seen;
    }

    void work() noexcept {
        inside() = true;
        for (std::uint64_t seen = 0;;) {
            std::uint64_t job = job_.load(std::memory_order_acquire);
            for (int spins = 0; !joinable(job, seen) && spins < spin_limit; ++spins) {
                spin_pause();
                job = job_.load(std::memory_order_acquire);
            }
            if (!joinable(job, seen)) {
                std::unique_lock lock(sleep_);
                sleepers_.fetch_add(1, std::memory_order_seq_cst);
                wake_.wait(lock, [&] {
                    return stopping_ || joinable(job = job_.load(std::memory_order_seq_cst), seen);
                });
                sleepers_.fetch_sub(1, std::memory_order_relaxed);
            }
            if (stopping_) return;
            if (!job_.compare_exchange_weak(job, job + 1, std::memory_order_acq_rel)) continue;
            seen = job / next_job;
            claim();
            job_.fetch_sub(1, std::memory_order_acq_rel);
        }
    }

    std::mutex submit_;  // held while a job runs, or threads come and go
    std::atomic<bool> started_{false};
    std::atomic<int> threads_{0};  // that it should have, when started has; 0: the default
    Task task_ = nullptr;
    const void* context_ = nullptr;
    Index count_ = 0;
    std::atomic<Index> next_{0};
    std::atomic<std::uint64_t> job_{0};
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stopping_{false};
    std::mutex sleep_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
};

// The pool of the process. Nobody destroys it, so whatever computes last still has it; a checker of
// leaks finds it here.
inline ThreadPool& thread_pool() noexcept {
    alignas(ThreadPool) static std::array<std::byte, sizeof(ThreadPool)> memory;
    static ThreadPool& pool = *new (memory.data()) ThreadPool;
    return pool;
}

#if __has_include(<pthread.h>)
// The process has none of our threads when it forks, so that the child lacks none. A task that
// forks leaves them: its child may only become another program.
template <void (ThreadPool::*change)() noexcept>
void around_fork() noexcept {
    ThreadPool& pool = thread_pool();
    if (!ThreadPool::inside()) (pool.*change)();
}
inline const int fork_handlers =
    ::pthread_atfork(around_fork<&ThreadPool::pause>, around_fork<&ThreadPool::resume>,
                     around_fork<&ThreadPool::resume>);
#endif

}  // namespace detail

// Threads that parallel_for uses, the caller included.
inline int num_threads() { return detail::thread_pool().size(); }

// Makes the pool one of n threads, n in [1, 1024]; 1 ends the others, as before a library that has
// computed is unloaded. Not while another thread computes. Allocates; throws std::system_error when
// the system refuses a thread: the pool is then of those it gave.
inline void set_num_threads(int n) { detail::thread_pool().resize(std::clamp(n, 1, 1024)); }

// Calls task(i) for every i in [0, count), in any order, on any thread of the pool; returns when
// all are done. Tasks must be independent and must not throw. worthwhile = false runs them here, in
// order (a job of a few microseconds is not worth waking a thread).
template <class F>
void parallel_for(Index count, const F& task, bool worthwhile = true) noexcept {
    if (count <= 0) return;
    auto& inside = detail::ThreadPool::inside();
    if (count > 1 && worthwhile && !inside) {
        inside = true;
        const bool done = detail::thread_pool().run(
            count, [](const void* context, Index i) { (*static_cast<const F*>(context))(i); },
            &task);
        inside = false;
        if (done) return;
    }
    for (Index i = 0; i < count; ++i) task(i);
}

}  // namespace HYDRALM_NAMESPACE
