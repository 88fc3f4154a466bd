// The blocks of published models, for every test that opens checkpoints.
#include "support/runtime_blocks.hpp"

template struct hydralm::HybridBlock<float>;
template struct hydralm::HybridBlock<double>;
