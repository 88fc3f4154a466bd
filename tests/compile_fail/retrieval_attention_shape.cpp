// expect: hydralm: shape: must be one of this module's; give RetrievalAttention a RetrievalShape
#include <hydralm/layers/retrieval_attention.hpp>

#ifdef HYDRALM_CONTROL
using Shape = hydralm::RetrievalShape<64, 4>;
#else
using Shape = hydralm::WindowShape<64, 4>;
#endif

hydralm::RetrievalAttention<float, 16, 32, Shape> mixer;
