// operator new and delete of a test program, with counts.
#include "support/allocations.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> count{0};
std::atomic<long> held{0};
std::atomic<long> peak{0};
thread_local long until_failure = -1;  // below 0: never
thread_local std::size_t least_to_fail = 0;

void* counted(void* p) noexcept {
    count.fetch_add(1, std::memory_order_relaxed);
    const auto bytes = static_cast<long>(::malloc_usable_size(p));
    const long now = held.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    long before = peak.load(std::memory_order_relaxed);
    while (now > before && !peak.compare_exchange_weak(before, now, std::memory_order_relaxed)) {
    }
    return p;
}

// Behind the failure until_failure is −1.
bool fails(std::size_t size) noexcept {
    return until_failure >= 0 && size >= least_to_fail && until_failure-- == 0;
}

void* allocate(std::size_t size) noexcept {
    return fails(size) ? nullptr : counted(std::malloc(size == 0 ? 1 : size));
}

void release(void* p) noexcept {
    held.fetch_sub(static_cast<long>(::malloc_usable_size(p)), std::memory_order_relaxed);
    std::free(p);
}

void* checked(void* p) {
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

}  // namespace

long hydralm::test::allocations() noexcept { return count.load(); }
long hydralm::test::held_bytes() noexcept { return held.load(); }
long hydralm::test::peak_bytes() noexcept { return peak.load(); }
void hydralm::test::forget_peak() noexcept { peak = held.load(); }
void hydralm::test::fail_after(long n, std::size_t least) noexcept {
    until_failure = n;
    least_to_fail = least;
}
void hydralm::test::fail_never() noexcept { until_failure = -1; }

void* operator new(std::size_t size) { return checked(allocate(size)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    const auto a = static_cast<std::size_t>(alignment);
    if (fails(size)) throw std::bad_alloc();
    return checked(counted(std::aligned_alloc(a, (size + a - 1) / a * a)));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
