// expect: hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is
#include <hydralm/layers/gated_delta_net.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::Index head_dim = 20;
#else
constexpr hydralm::Index head_dim = 18;
#endif

hydralm::GatedDeltaNet<float, head_dim> mixer({.d_model = 36, .n_heads = 2});
