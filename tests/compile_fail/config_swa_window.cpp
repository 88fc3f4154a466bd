// expect: hydralm: swa_window: must be in [1, 2^24]; 512 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.swa_window = 1};
#else
constexpr hydralm::HydraConfig config{.swa_window = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
