// expect: hydralm: dn_chunk_size: must be positive; 64 is usual
#include <hydralm/layers/gated_delta_net.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::Index chunk_size = 1;
#else
constexpr hydralm::Index chunk_size = 0;
#endif

hydralm::GatedDeltaNet<float, 16, chunk_size> mixer({.d_model = 32, .n_heads = 2});
