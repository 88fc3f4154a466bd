// expect: hydralm: n_heads: must be in [1, 2^24]; usual is d_model / 64
#include <hydralm/model/hydra_lm.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 1};
#else
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 0};
#endif

hydralm::HydraLM<config> model;
