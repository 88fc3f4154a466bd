// expect: hydralm: stack: norm, mixer and MLP of every layer must have the width
// expect: LayerFits<2>
#include "support/module_case.hpp"

using namespace hydralm::test;

#ifdef HYDRALM_CONTROL
using Case = BlockOf<Whole>;
#else
using Case = hydralm::Block<Whole, hydralm::SwiGLU<float, hydralm::MlpShape<24, 32>>, Norm>;
#endif
using Model = hydralm::LanguageModel<hydralm::Vocabulary<8>,
                                     hydralm::Stack<hydralm::Repeat<2, BlockOf<Whole>>, Case>>;

int main() { return static_cast<int>(Model::vocab_size()) - 8; }
