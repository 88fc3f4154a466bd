// expect: hydralm: embedded weights: must be those of a model of this config and format
#include <hydralm/model/hydra_lm.hpp>

constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 1};
using Embedded = hydralm::HydraLM<config, float, hydralm::weights::Q4>;
#ifdef HYDRALM_CONTROL
using Model = hydralm::HydraLM<config, float, hydralm::weights::Q4>;
#else
using Model = hydralm::HydraLM<config, float, hydralm::weights::Q8>;
#endif
extern const hydralm::EmbeddedWeights<Embedded, hydralm::simd::vector_bytes> embedded;
const Model model{embedded};
