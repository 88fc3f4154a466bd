// expect: hydralm: -fno-honor-infinities: must be off
// with: -c -O2 -fno-honor-infinities
// on: clang
#include <hydralm/core/types.hpp>
