// The blocks of published models, compiled once, in support/models/hybrid_blocks.cpp.
#pragma once

#include "hydralm/model/runtime_model.hpp"

extern template std::unique_ptr<hydralm::ErasedBlock<float>>
hydralm::detail::make_hybrid_block<float>(const hydralm::HybridShape&, const hydralm::HybridLayer&);
extern template std::unique_ptr<hydralm::ErasedBlock<double>>
hydralm::detail::make_hybrid_block<double>(const hydralm::HybridShape&,
                                           const hydralm::HybridLayer&);
