// expect: hydralm: -ffast-math (-Ofast): must be off; use -O3
// with: -Ofast -Wno-deprecated
#include <hydralm/core/types.hpp>
