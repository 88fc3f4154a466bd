// expect: hydralm: n_kv_heads: must divide n_heads or be 0; 0 means n_heads
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.n_heads = 12, .n_kv_heads = 4};
#else
constexpr hydralm::HydraConfig config{.n_heads = 12, .n_kv_heads = 5};
#endif

static_assert(hydralm::ValidConfig<config>::value);
