// Layers of published models, whose sizes are read at run time.
#include "runtime_kernels.hpp"

template struct hydralm::HybridBlock<float>;
template struct hydralm::HybridBlock<double>;
