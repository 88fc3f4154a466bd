// expect: hydralm: head_dim: n_heads must divide d_model; change n_heads or give head_dim
// explicitly
#include <hydralm/model/hydra_lm.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 4};
#else
constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 5};
#endif

hydralm::HydraLM<config> model;
