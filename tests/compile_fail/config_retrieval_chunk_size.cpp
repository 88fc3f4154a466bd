// expect: hydralm: retrieval_chunk_size: must be in [1, 2^24]; 128 is usual
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.retrieval_chunk_size = 1};
#else
constexpr hydralm::HydraConfig config{.retrieval_chunk_size = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
