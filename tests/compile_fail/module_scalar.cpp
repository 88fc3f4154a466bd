// expect: hydralm: module: must name its scalar
#include "support/module_case.hpp"

using namespace hydralm::test;

class Mixer : public Whole {
#ifndef HYDRALM_CONTROL
    using Scalar = float;
#endif
};

int main() { return static_cast<int>(BlockOf<Mixer>{}.d_model()) - 16; }
