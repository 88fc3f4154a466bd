// Layers of published models, whose sizes are read at run time.
#include "runtime_kernels.hpp"

template std::unique_ptr<hydralm::ErasedBlock<float>> hydralm::detail::make_hybrid_block<float>(
    const hydralm::HybridShape&, const hydralm::HybridLayer&);
template std::unique_ptr<hydralm::ErasedBlock<double>> hydralm::detail::make_hybrid_block<double>(
    const hydralm::HybridShape&, const hydralm::HybridLayer&);
