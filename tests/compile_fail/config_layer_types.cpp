// expect: hydralm: layer_types: must name n_layers layers or none; leave it empty for the schedule
#include <hydralm/model/config_fields.hpp>

using enum hydralm::LayerType;

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.n_layers = 2, .layer_types = {swa, deltanet}};
#else
constexpr hydralm::HydraConfig config{.n_layers = 3, .layer_types = {swa, deltanet}};
#endif

static_assert(hydralm::ValidConfig<config>::value);
