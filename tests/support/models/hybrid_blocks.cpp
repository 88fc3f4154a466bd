// The blocks of published models, for every test that opens checkpoints.
#include "support/hybrid_blocks.hpp"

template struct hydralm::HybridBlock<float>;
template struct hydralm::HybridBlock<double>;
