// expect: hydralm: mtp_depth: must be in [0, 16]; 0 means none
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.mtp_depth = 16};
#else
constexpr hydralm::HydraConfig config{.mtp_depth = 17};
#endif

static_assert(hydralm::ValidConfig<config>::value);
