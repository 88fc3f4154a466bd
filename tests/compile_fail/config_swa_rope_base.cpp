// expect: hydralm: swa_rope_base: must be positive and finite; 10000 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.swa_rope_base = 500000.0};
#else
constexpr hydralm::HydraConfig config{.swa_rope_base = 0.0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
