// Counts what a test program takes from the heap. A program that includes this adds
// support/allocations.cpp to its sources.
#pragma once

namespace hydralm::test {

// Calls of operator new so far, on all threads.
long allocations() noexcept;

}  // namespace hydralm::test
