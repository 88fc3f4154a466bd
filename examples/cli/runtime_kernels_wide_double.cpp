// Layers of double with heads of 64 and 128, for any config.
#include "runtime_kernels.hpp"

template struct hydralm::RuntimeBlock<double, 64, hydralm::CommonChunks>;
template struct hydralm::RuntimeBlock<double, 128, hydralm::CommonChunks>;
