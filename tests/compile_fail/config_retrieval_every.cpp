// expect: hydralm: retrieval_every: must not be negative; 0 means no retrieval layer
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.retrieval_every = 0};
#else
constexpr hydralm::HydraConfig config{.retrieval_every = -1};
#endif

static_assert(hydralm::ValidConfig<config>::value);
