// expect: hydralm: module: must say what files compare
#include "support/module_case.hpp"

using namespace hydralm::test;

class Mixer : public Whole {
#ifndef HYDRALM_CONTROL
    using Whole::describe;
#endif
};

int main() { return static_cast<int>(BlockOf<Mixer>{}.d_model()) - 16; }
