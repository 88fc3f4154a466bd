// expect: hydralm: d_model: must be in [1, 2^24]; 128 to 4096 are usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 96};
#else
constexpr hydralm::HydraConfig config{.d_model = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
