// expect: hydralm: retrieval_top_k: must be in [1, 2^24]; 8 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.retrieval_top_k = 1};
#else
constexpr hydralm::HydraConfig config{.retrieval_top_k = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
