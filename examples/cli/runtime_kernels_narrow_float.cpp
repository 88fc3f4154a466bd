// Layers of float with heads of 16 and 32, for any config.
#include "runtime_kernels.hpp"

template struct hydralm::RuntimeBlock<float, 16, hydralm::CommonChunks>;
template struct hydralm::RuntimeBlock<float, 32, hydralm::CommonChunks>;
