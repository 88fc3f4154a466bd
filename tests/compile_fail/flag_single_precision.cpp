// expect: hydralm: -fsingle-precision-constant: must be off
// with: -fsingle-precision-constant
// on: g++
#include <hydralm/core/types.hpp>
