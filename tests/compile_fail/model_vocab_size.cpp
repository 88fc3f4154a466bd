// expect: hydralm: vocab_size: must be in [1, 2^24]; set what the tokeniser has
#include <hydralm/model/hydra_lm.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.vocab_size = 1, .d_model = 32, .n_layers = 1, .n_heads = 2};
#else
constexpr hydralm::HydraConfig config{.vocab_size = -1, .d_model = 32, .n_layers = 1, .n_heads = 2};
#endif

hydralm::HydraLM<config> model;
