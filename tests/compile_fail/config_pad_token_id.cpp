// expect: hydralm: pad_token_id: must be in [0, vocab_size); use 0 when there is no padding
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.vocab_size = 256, .pad_token_id = 255};
#else
constexpr hydralm::HydraConfig config{.vocab_size = 256, .pad_token_id = 256};
#endif

static_assert(hydralm::ValidConfig<config>::value);
