// expect: hydralm: n_heads: must be in [1, 2^24]; usual is d_model / 64
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.n_heads = 1};
#else
constexpr hydralm::HydraConfig config{.n_heads = 0};
#endif

static_assert(hydralm::ValidConfig<config>::value);
