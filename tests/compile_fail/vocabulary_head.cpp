// expect: hydralm: vocabulary: its head must be tied or untied
#include "support/module_case.hpp"

using namespace hydralm::test;

#ifdef HYDRALM_CONTROL
using Case = hydralm::untied;
#else
using Case = Norm;
#endif

int main() { return static_cast<int>(hydralm::Vocabulary<8, Case>::size) - 8; }
