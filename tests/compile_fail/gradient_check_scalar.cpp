// expect: hydralm: gradient check: must be made in double
#include "hydralm/training/gradient_check.hpp"
#include "support/module_case.hpp"

using namespace hydralm::test;

#ifdef HYDRALM_CONTROL
using Case = hydralm::GatedDeltaNet<double, 8, 64, hydralm::DeltaNetShape<16, 2>>;
#else
using Case = Whole;
#endif

int main() { return hydralm::check_gradient<Case>().error < 1.0 ? 0 : 1; }
