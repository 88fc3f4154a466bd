// expect: hydralm: -ffast-math (-Ofast): must be off; use -O3
// with: -ffast-math
#include <hydralm/core/types.hpp>
