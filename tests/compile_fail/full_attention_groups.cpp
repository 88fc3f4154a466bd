// expect: hydralm: n_kv_heads: must divide n_heads; each group of keys and values is read by as many
#include <hydralm/layers/full_attention.hpp>

#ifdef HYDRALM_CONTROL
using Shape = hydralm::FullShape<64, 4, 2>;
#else
using Shape = hydralm::FullShape<64, 4, 3>;
#endif

hydralm::FullAttention<float, 16, 64, Shape> mixer;
