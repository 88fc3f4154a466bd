// What of RuntimeModel is large to compile, compiled once for the whole program: in
// runtime_kernels_*.cpp heads of the sizes in hydralm::CommonHeadDims, and published models; in
// model_of_any_config.cpp what is of no layer.
#pragma once

#include <hydralm/model/runtime_model.hpp>

extern template struct hydralm::RuntimeBlock<float, 16, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<float, 32, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<float, 64, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<float, 128, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<double, 16, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<double, 32, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<double, 64, hydralm::CommonChunks>;
extern template struct hydralm::RuntimeBlock<double, 128, hydralm::CommonChunks>;
extern template struct hydralm::HybridBlock<float>;
extern template struct hydralm::HybridBlock<double>;
extern template class hydralm::RuntimeModel<float>;
extern template class hydralm::RuntimeModel<double>;
