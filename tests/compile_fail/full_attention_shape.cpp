// expect: hydralm: shape: must be one of this module's; give FullAttention a FullShape
#include <hydralm/layers/full_attention.hpp>

#ifdef HYDRALM_CONTROL
using Shape = hydralm::FullShape<64, 4, 2>;
#else
using Shape = hydralm::DeltaNetShape<64, 4>;
#endif

hydralm::FullAttention<float, 16, 64, Shape> mixer;
