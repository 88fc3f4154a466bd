// expect: hydralm: shape: must be one of this module's; give GatedDeltaNet a DeltaNetShape
#include <hydralm/layers/gated_delta_net.hpp>

#ifdef HYDRALM_CONTROL
using Shape = hydralm::DeltaNetShape<64, 4>;
#else
using Shape = hydralm::WindowShape<64, 4>;
#endif

hydralm::GatedDeltaNet<float, 16, 0, Shape> mixer;
