// expect: hydralm: module: must have a rollback
#include "support/module_case.hpp"

using namespace hydralm::test;

class Mixer : public Whole {
#ifndef HYDRALM_CONTROL
    using Whole::rollback;
#endif
};

int main() { return static_cast<int>(BlockOf<Mixer>{}.d_model()) - 16; }
