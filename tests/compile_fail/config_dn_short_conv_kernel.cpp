// expect: hydralm: dn_short_conv_kernel: must be in [1, 64]; 4 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.dn_short_conv_kernel = 1};
#else
constexpr hydralm::HydraConfig config{.dn_short_conv_kernel = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
