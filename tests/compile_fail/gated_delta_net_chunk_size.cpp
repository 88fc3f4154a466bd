// expect: hydralm: chunk: must be 4, 8, 16, 32 or 64; 0 takes the fastest
#include <hydralm/layers/gated_delta_net.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::Index chunk_size = 16;
#else
constexpr hydralm::Index chunk_size = 12;
#endif

hydralm::GatedDeltaNet<float, 16, chunk_size> mixer({.d_model = 32, .n_heads = 2});
