// expect: hydralm: weights: must be Float to be trained
#include <hydralm/training/gradients.hpp>

constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 1};
#ifdef HYDRALM_CONTROL
using Model = hydralm::HydraLM<config>;
#else
using Model = hydralm::HydraLM<config, float, hydralm::weights::BF16>;
#endif

const Model model;
hydralm::Gradients<Model> gradients(model, 1, 8);
