// expect: hydralm: module: must have a tape to be trained
#include "hydralm/training/gradients.hpp"
#include "support/module_case.hpp"

using namespace hydralm::test;

// Computes, and leaves nothing for backward.
class Untrained : private Whole {
public:
    using Whole::d_model, Whole::describe, Whole::visit, Whole::visit_state, Whole::visit_scratch,
        Whole::forward;
    using Whole::Scalar, Whole::State, Whole::Scratch;
    template <class Storage>
    using Parameters = Whole::Parameters<Storage>;
};

#ifdef HYDRALM_CONTROL
using Mixer = Whole;
#else
using Mixer = Untrained;
#endif
using Model = hydralm::LanguageModel<hydralm::Vocabulary<32>, hydralm::Stack<BlockOf<Mixer>>>;

const Model model;
hydralm::Gradients<Model> gradients(model, 1, 8);
