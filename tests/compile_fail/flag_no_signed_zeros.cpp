// expect: hydralm: -fno-signed-zeros: must be off
// with: -c -O1 -fno-signed-zeros
#include <hydralm/core/types.hpp>
