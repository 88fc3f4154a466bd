// expect: hydralm: module: must carry its state where it has a map
#include "support/module_case.hpp"

using namespace hydralm::test;

class Mixer : public Whole {
#ifndef HYDRALM_CONTROL
    using Whole::carry;
#endif
};

int main() { return static_cast<int>(BlockOf<Mixer>{}.d_model()) - 16; }
