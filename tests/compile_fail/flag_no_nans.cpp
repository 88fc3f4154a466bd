// expect: hydralm: -fno-honor-nans: must be off
// with: -c -O2 -fno-honor-nans
// on: clang
#include <hydralm/core/types.hpp>
