// expect: hydralm: module: must advance where it has a halo
#include "support/module_case.hpp"

using namespace hydralm::test;

class Mixer : public Whole {
#ifndef HYDRALM_CONTROL
    using Whole::advance;
#endif
};

int main() { return static_cast<int>(BlockOf<Mixer>{}.d_model()) - 16; }
