// expect: hydralm: C++ standard: expected C++20 or newer; compile with -std=c++20
// with: -std=c++17
#include <hydralm/hydralm.hpp>
