// expect: hydralm: -freciprocal-math: must be off
// with: -c -O1 -freciprocal-math
#include <hydralm/core/types.hpp>
