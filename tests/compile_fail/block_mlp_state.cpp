// expect: hydralm: mlp: must carry no state
#include "support/module_case.hpp"

using namespace hydralm::test;

#ifdef HYDRALM_CONTROL
using Case = Mlp;
#else
using Case = Whole;
#endif

int main() { return static_cast<int>(hydralm::Block<Whole, Case, Norm>{}.d_model()) - 16; }
