// expect: hydralm: vocab_size: must be in [1, 2^24]; set what the tokeniser has
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.vocab_size = 256};
#else
constexpr hydralm::HydraConfig config{.vocab_size = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
