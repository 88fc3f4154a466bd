// expect: hydralm: norm: must have the width of the stack
#include "support/module_case.hpp"

using namespace hydralm::test;

#ifdef HYDRALM_CONTROL
using Case = Norm;
#else
using Case = hydralm::RmsNorm<float, hydralm::NormShape<24>>;
#endif
using Model = hydralm::LanguageModel<hydralm::Vocabulary<8>, hydralm::Stack<BlockOf<Whole>>, Case>;

int main() { return static_cast<int>(Model::vocab_size()) - 8; }
