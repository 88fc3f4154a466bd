// expect: hydralm: layer_types: must name n_layers layers or none; leave it empty for the schedule
#include <hydralm/model/hydra_lm.hpp>

using enum hydralm::LayerType;

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{
    .d_model = 32, .n_layers = 1, .n_heads = 2, .layer_types = {swa}};
#else
constexpr hydralm::HydraConfig config{
    .d_model = 32, .n_layers = 2, .n_heads = 2, .layer_types = {swa}};
#endif

hydralm::HydraLM<config> model;
