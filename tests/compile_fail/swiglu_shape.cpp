// expect: hydralm: shape: must be one of this module's; give SwiGLU a MlpShape
#include <hydralm/layers/swiglu.hpp>

#ifdef HYDRALM_CONTROL
using Shape = hydralm::MlpShape<64, 128>;
#else
using Shape = hydralm::NormShape<64>;
#endif

hydralm::SwiGLU<float, Shape> mlp;
