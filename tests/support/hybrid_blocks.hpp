// The blocks of published models, compiled once, in support/models/hybrid_blocks.cpp.
#pragma once

#include "hydralm/model/runtime_model.hpp"

extern template struct hydralm::HybridBlock<float>;
extern template struct hydralm::HybridBlock<double>;
