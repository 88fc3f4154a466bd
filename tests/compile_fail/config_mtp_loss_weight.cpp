// expect: hydralm: mtp_loss_weight: must be in [0, 1e6]; 0.1 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.mtp_loss_weight = 0.0};
#else
constexpr hydralm::HydraConfig config{.mtp_loss_weight = -0.1};
#endif

static_assert(hydralm::ValidConfig<config>::value);
