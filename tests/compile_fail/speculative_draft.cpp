// expect: hydralm: vocab_size: a draft must have that of the model; use a draft made for the same
#include <hydralm/inference/speculative.hpp>

constexpr hydralm::HydraConfig config{.vocab_size = 16, .d_model = 16, .n_layers = 1, .n_heads = 2};
#ifdef HYDRALM_CONTROL
constexpr int vocab_size = 16;
#else
constexpr int vocab_size = 17;
#endif
constexpr hydralm::HydraConfig of_draft{
    .vocab_size = vocab_size, .d_model = 16, .n_layers = 1, .n_heads = 2};

using Draft = hydralm::ModelDraft<hydralm::HydraLM<of_draft>>;
static_assert(sizeof(hydralm::SpeculativeDecoder<hydralm::HydraLM<config>, Draft>) > 0);
