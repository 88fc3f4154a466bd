// expect: hydralm: head_dim: must be a multiple of 4 in [4, 4096] (RoPE pairs, SIMD); choose n_heads so that it is
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 24, .n_heads = 2};
#else
constexpr hydralm::HydraConfig config{.d_model = 24, .n_heads = 4};
#endif

static_assert(hydralm::ValidConfig<config>::value);
