// expect: hydralm: norm: must be there for Residual
#include "support/module_case.hpp"

using namespace hydralm::test;

class Case : public Norm {
#ifndef HYDRALM_CONTROL
    using Norm::forward;
#endif
};

int main() { return static_cast<int>(hydralm::Block<Whole, Mlp, Case>{}.d_model()) - 16; }
