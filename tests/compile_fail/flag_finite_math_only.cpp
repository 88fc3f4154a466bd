// expect: hydralm: -ffinite-math-only: must be off
// with: -ffinite-math-only
#include <hydralm/core/types.hpp>
