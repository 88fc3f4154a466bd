// expect: hydralm: -fassociative-math
// with: -c -O2 -fassociative-math -fno-signed-zeros -fno-trapping-math
#include <hydralm/core/types.hpp>
