// Layers of float with heads of 64 and 128, for any config.
#include "runtime_kernels.hpp"

template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 64, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 128, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
