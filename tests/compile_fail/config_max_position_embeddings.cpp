// expect: hydralm: max_position_embeddings: must be positive; it is advice only
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.max_position_embeddings = 1};
#else
constexpr hydralm::HydraConfig config{.max_position_embeddings = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
