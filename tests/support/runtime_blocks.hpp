// Run-time models, compiled once, in support/models/: the layers of published ones, and of configs
// with heads of 12 to 16 and chunks of at most 13; what is of no layer.
#pragma once

#include "hydralm/model/runtime_model.hpp"

namespace hydralm::test {

using SmallChunks = Sizes<13>;
using SmallKernels = Kernels<Sizes<12>, SmallChunks>;  // those of the small models
using WiderKernels = Kernels<Sizes<16>, SmallChunks>;
using EitherKernels = Kernels<Sizes<12, 16>, SmallChunks>;
using NoKernels = Kernels<Sizes<>, Sizes<>>;  // a published model needs none

}  // namespace hydralm::test

extern template struct hydralm::RuntimeBlock<float, 12, hydralm::test::SmallChunks>;
extern template struct hydralm::RuntimeBlock<float, 16, hydralm::test::SmallChunks>;
extern template struct hydralm::RuntimeBlock<double, 12, hydralm::test::SmallChunks>;
extern template struct hydralm::RuntimeBlock<double, 16, hydralm::test::SmallChunks>;
extern template struct hydralm::HybridBlock<float>;
extern template struct hydralm::HybridBlock<double>;
extern template class hydralm::RuntimeModel<float>;
extern template class hydralm::RuntimeModel<double>;
