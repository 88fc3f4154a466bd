// expect: hydralm: mtp_depth: multi-token prediction is not available in this version; set
// mtp_depth = 0
#include <hydralm/model/hydra_lm.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 4, .n_heads = 2, .mtp_depth = 0};
#else
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 4, .n_heads = 2, .mtp_depth = 1};
#endif

hydralm::HydraLM<config> model;
