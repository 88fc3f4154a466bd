// Layers of double with heads of 16 and 32, for any config.
#include "runtime_kernels.hpp"

template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 16, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 32, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
