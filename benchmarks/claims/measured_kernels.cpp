// The layers of all models that are measured, compiled once.
#include "measure.hpp"

template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 32, MeasuredChunks>(const hydralm::HydraConfig&, int);
template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 32, MeasuredChunks>(const hydralm::HydraConfig&, int);
