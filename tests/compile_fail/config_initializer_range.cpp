// expect: hydralm: initializer_range: must be positive and finite; 0.02 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.initializer_range = 0.01};
#else
constexpr hydralm::HydraConfig config{.initializer_range = 0.0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
