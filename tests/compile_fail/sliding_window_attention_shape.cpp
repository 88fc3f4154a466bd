// expect: hydralm: shape: must be one of this module's; give SlidingWindowAttention a WindowShape
#include <hydralm/layers/sliding_window_attention.hpp>

#ifdef HYDRALM_CONTROL
using Shape = hydralm::WindowShape<64, 4>;
#else
using Shape = hydralm::DeltaNetShape<64, 4>;
#endif

hydralm::SlidingWindowAttention<float, 16, 0, Shape> mixer;
