// expect: hydralm: mlp_mult: must be positive and make a width in [1, 2^24]; 8/3 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.mlp_mult = 4.0};
#else
constexpr hydralm::HydraConfig config{.mlp_mult = -1.0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
