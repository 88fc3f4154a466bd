// parallel_for: independent tasks over a pool of threads, with the same numbers for any number of
// threads.
//
// The pool is process-wide, made once, and sized by set_num_threads or HYDRALM_NUM_THREADS
// (default: the hardware; fewer, with a warning, when the system refuses threads). A task writes
// only what belongs to it, so results cannot depend on which thread ran it. Calls from inside a
// task, and calls while another thread uses the pool, run on the calling thread alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "hydralm/core/types.hpp"

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

// One job at a time: tasks 0 … count−1 are claimed from a shared counter. Workers spin for a
// fraction of a millisecond between jobs (a decoded token is dozens of short jobs), then sleep. A
// job never waits for a worker that has not joined it, so a busy machine costs a thread's help, not
// its turn on the processor.
class ThreadPool {
public:
    using Task = void (*)(const void* context, Index task);

    ThreadPool() = default;  // of the calling thread alone
    ~ThreadPool() { stop(); }
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

    // Makes it a pool of so many threads, while no job runs. Throws when the system refuses one;
    // those that started stay.
    void resize(int threads) {
        if (threads < size()) stop();
        workers_.reserve(static_cast<std::size_t>(threads - 1));
        while (size() < threads) workers_.emplace_back([this] { work(); });
    }

    // False when another thread is using the pool: the caller then runs the tasks itself.
    bool run(Index count, Task task, const void* context) noexcept {
        if (!submit_.try_lock()) return false;
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

    std::mutex submit_;  // held while a job runs
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

// Of the default size, or of as many threads as the system gives.
inline std::unique_ptr<ThreadPool> default_pool() {
    auto pool = std::make_unique<ThreadPool>();
    const int threads = default_num_threads();
    try {
        pool->resize(threads);
    } catch (const std::exception& refusal) {
        std::fprintf(stderr,
                     "hydralm: threads: expected %d, found %d (%s); using these, set "
                     "HYDRALM_NUM_THREADS or raise the limit of threads\n",
                     threads, pool->size(), refusal.what());
    }
    return pool;
}

// The one of the process, which the first call makes.
inline ThreadPool& thread_pool(std::unique_ptr<ThreadPool> (*make)() = default_pool) {
    static const std::unique_ptr<ThreadPool> pool = make();
    return *pool;
}

}  // namespace detail

// Threads that parallel_for uses, the caller included.
inline int num_threads() { return detail::thread_pool().size(); }

// Makes the pool one of n threads, n in [1, 1024]. Not while another thread computes. Allocates;
// throws std::system_error when the system refuses a thread: the pool is then of those it gave.
inline void set_num_threads(int n) {
    detail::thread_pool([] {
        return std::make_unique<detail::ThreadPool>();
    }).resize(std::clamp(n, 1, 1024));
}

// Calls task(i) for every i in [0, count), in any order, on any thread of the pool; returns when
// all are done. Tasks must be independent and must not throw. worthwhile = false runs them here, in
// order (a job of a few microseconds is not worth waking a thread).
template <class F>
void parallel_for(Index count, const F& task, bool worthwhile = true) noexcept {
    if (count <= 0) return;
    auto& inside = detail::ThreadPool::inside();
    if (count > 1 && worthwhile && !inside) {
        auto& pool = detail::thread_pool();
        if (pool.size() > 1) {
            inside = true;
            const bool done = pool.run(
                count, [](const void* context, Index i) { (*static_cast<const F*>(context))(i); },
                &task);
            inside = false;
            if (done) return;
        }
    }
    for (Index i = 0; i < count; ++i) task(i);
}

}  // namespace HYDRALM_NAMESPACE
