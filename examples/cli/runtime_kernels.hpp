// What of RuntimeModel is large to compile, compiled once for the whole program, in
// runtime_kernels_*.cpp.
#pragma once

#include <hydralm/model/runtime_model.hpp>

extern template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 16, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 32, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 64, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_block<float, 128, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_hybrid_block<float>(const hydralm::HybridShape&, const hydralm::HybridLayer&);
extern template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_hybrid_block<double>(const hydralm::HybridShape&,
                                           const hydralm::HybridLayer&);
extern template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 16, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 32, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 64, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
extern template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_block<double, 128, hydralm::CommonChunks>(const hydralm::HydraConfig&, int);
