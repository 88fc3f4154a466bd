// expect: hydralm: n_layers: must be in [1, 256]; use fewer layers
#include <hydralm/model/hydra_lm.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 2};
#else
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 2000000000, .n_heads = 2};
#endif

hydralm::HydraLM<config> model;
