// expect: hydralm: head_dim: n_heads must divide d_model; change n_heads or give head_dim explicitly
#include <hydralm/model/config_fields.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::HydraConfig config{.d_model = 100, .n_heads = 3, .head_dim = 32};
#else
constexpr hydralm::HydraConfig config{.d_model = 100, .n_heads = 3};
#endif

static_assert(hydralm::ValidConfig<config>::value);
