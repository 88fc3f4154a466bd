// Counts what a test program takes from the heap. A program that includes this adds
// support/allocations.cpp to its sources.
#pragma once

#include <cstddef>

namespace hydralm::test {

// Calls of operator new so far, on all threads.
long allocations() noexcept;

// Bytes held now, and the most that were held at once since forget_peak.
long held_bytes() noexcept;
long peak_bytes() noexcept;
void forget_peak() noexcept;

// Of this thread's allocations of at least so many bytes the next n succeed, the one after them
// throws std::bad_alloc, and all succeed again.
void fail_after(long n, std::size_t least = 0) noexcept;
void fail_never() noexcept;

}  // namespace hydralm::test
