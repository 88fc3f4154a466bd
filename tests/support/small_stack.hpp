// How much stack a call takes, and calls on threads that have little.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <span>
#include <thread>

#include "hydralm/core/parallel.hpp"
#include "support/catch.hpp"

namespace hydralm::test {

// What docs/using.md promises.
inline constexpr Index stack_of_step = 64 * 1024;
inline constexpr Index stack_of_prefill = 128 * 1024;
inline constexpr Index stack_of_training = 128 * 1024;

// Sanitizers, and code that nobody optimised, take several times as much.
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool frames_are_plain = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool frames_are_plain = false;
#else
inline constexpr bool frames_are_plain = true;
#endif
#else
inline constexpr bool frames_are_plain = true;
#endif

// Bytes that f reaches down to on a painted stack, what the system keeps there for a thread
// included. One thread computes.
template <class F>
Index stack_bytes(const F& f) {
    constexpr std::size_t size = 1 << 20, page = 1 << 16;
    constexpr unsigned char paint = 0xA5;
    const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(page, size),
                                                             std::free);
    const std::span<unsigned char> stack(static_cast<unsigned char*>(memory.get()), size);
    std::ranges::fill(stack, paint);
    const int threads_before = num_threads();
    set_num_threads(1);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstack(&attributes, stack.data(), stack.size()) == 0);
    pthread_t thread{};
    REQUIRE(pthread_create(
                &thread, &attributes,
                [](void* call) -> void* {
                    (*static_cast<const F*>(call))();
                    return nullptr;
                },
                const_cast<F*>(&f)) == 0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    set_num_threads(threads_before);
    const auto lowest = std::ranges::find_if(stack, [](unsigned char b) { return b != paint; });
    return stack.end() - lowest;
}

#ifdef __GLIBC__
// f on a thread whose stack has so many bytes, and so have those of the pool that it uses.
template <class F>
void on_small_stacks(Index bytes, const F& f) {
    const int threads_before = num_threads();
    pthread_attr_t before, small;
    pthread_getattr_default_np(&before);
    pthread_getattr_default_np(&small);
    pthread_attr_setstacksize(&small, static_cast<std::size_t>(bytes));
    set_num_threads(1);
    REQUIRE(pthread_setattr_default_np(&small) == 0);
    std::thread([&] {
        set_num_threads(3);
        f();
    }).join();
    set_num_threads(1);
    REQUIRE(pthread_setattr_default_np(&before) == 0);
    set_num_threads(threads_before);
    pthread_attr_destroy(&small);
    pthread_attr_destroy(&before);
}
#endif

}  // namespace hydralm::test
