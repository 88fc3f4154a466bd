// expect: hydralm: mlp_multiple_of: must be in [1, 2^24]; 64 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.mlp_multiple_of = 1};
#else
constexpr hydralm::HydraConfig config{.mlp_multiple_of = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
