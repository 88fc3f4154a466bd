// expect: hydralm: chunk: must be a multiple of 16 up to 128; 0 takes the fastest
#include <hydralm/layers/sliding_window_attention.hpp>

#ifdef HYDRALM_CONTROL
constexpr hydralm::Index chunk_size = 48;
#else
constexpr hydralm::Index chunk_size = 8;
#endif

hydralm::SlidingWindowAttention<float, 16, chunk_size> mixer({.d_model = 32, .n_heads = 2});
