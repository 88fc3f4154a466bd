// expect: hydralm: -freciprocal-math: must be off
// with: -freciprocal-math
// on: g++
#include <hydralm/core/types.hpp>
