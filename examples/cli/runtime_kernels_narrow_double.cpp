// Layers of double with heads of 16 and 32, for any config.
#include "runtime_kernels.hpp"

template struct hydralm::RuntimeBlock<double, 16, hydralm::CommonChunks>;
template struct hydralm::RuntimeBlock<double, 32, hydralm::CommonChunks>;
