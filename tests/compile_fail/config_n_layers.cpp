// expect: hydralm: n_layers: must be in [1, 256]; use fewer layers
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.n_layers = 256};
#else
constexpr hydralm::HydraConfig config{.n_layers = 257};
#endif

static_assert(hydralm::ValidConfig<config>::value);
