// expect: hydralm: rms_eps: must be in [1e-37, 1e37]; 1e-5 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.rms_eps = 1e-6};
#else
constexpr hydralm::HydraConfig config{.rms_eps = 0.0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
