// expect: hydralm: block: mixer, MLP and norm must compute in one scalar
#include "support/module_case.hpp"

using namespace hydralm::test;

#ifdef HYDRALM_CONTROL
using Case = Norm;
#else
using Case = hydralm::RmsNorm<double, hydralm::NormShape<16>>;
#endif

int main() { return static_cast<int>(hydralm::Block<Whole, Mlp, Case>{}.d_model()) - 16; }
