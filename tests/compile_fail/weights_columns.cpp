// expect: hydralm: weights: a matrix of Q8 or Q4 must have at most 57344 columns
#include <hydralm/model/hydra_lm.hpp>

constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 1, .mlp_mult = 8192};
#ifdef HYDRALM_CONTROL
hydralm::HydraLM<config, float, hydralm::weights::BF16> model;
#else
hydralm::HydraLM<config, float, hydralm::weights::Q4> model;
#endif
