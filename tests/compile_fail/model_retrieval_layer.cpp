// expect: hydralm: layer_types: retrieval layers are not available in this version; set
// retrieval_every = 0 or name deltanet and swa layers only
#include <hydralm/model/hydra_lm.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{
    .d_model = 32, .n_layers = 4, .n_heads = 2, .retrieval_every = 0};
#else
constexpr hydralm::HydraConfig config{
    .d_model = 32, .n_layers = 4, .n_heads = 2, .retrieval_every = 3};
#endif

hydralm::HydraLM<config> model;
