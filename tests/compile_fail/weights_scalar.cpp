// expect: hydralm: weights: BF16, Q8, Q4 and Mixed must be in a model of float
#include <hydralm/model/hydra_lm.hpp>

constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 1};
#ifdef HYDRALM_CONTROL
hydralm::HydraLM<config, float, hydralm::weights::BF16> model;
#else
hydralm::HydraLM<config, double, hydralm::weights::BF16> model;
#endif
