// expect: hydralm: embedded weights: must be laid out for the vectors that this unit is compiled for
#include <hydralm/model/hydra_lm.hpp>

constexpr hydralm::HydraConfig config{.d_model = 32, .n_layers = 1, .n_heads = 1};
#ifdef HYDRALM_CONTROL
constexpr hydralm::Index vector_bytes = hydralm::simd::vector_bytes;
#else
constexpr hydralm::Index vector_bytes = 8;
#endif
extern const hydralm::EmbeddedWeights<hydralm::HydraLM<config>, vector_bytes> embedded;
const hydralm::HydraLM<config> model{embedded};
