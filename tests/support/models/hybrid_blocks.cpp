// The blocks of published models, for every test that opens checkpoints.
#include "support/hybrid_blocks.hpp"

template std::unique_ptr<hydralm::ErasedBlock<float>> hydralm::detail::make_hybrid_block<float>(
    const hydralm::HybridShape&, const hydralm::HybridLayer&);
template std::unique_ptr<hydralm::ErasedBlock<double>> hydralm::detail::make_hybrid_block<double>(
    const hydralm::HybridShape&, const hydralm::HybridLayer&);
