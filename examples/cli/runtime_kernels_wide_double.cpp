// Layers of double with heads of 64 and 128, for any config.
#include "runtime_kernels.hpp"

template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 64, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 128, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
