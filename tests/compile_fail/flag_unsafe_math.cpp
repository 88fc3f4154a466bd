// expect: hydralm: -fassociative-math
// with: -c -O1 -funsafe-math-optimizations
#include <hydralm/core/types.hpp>
