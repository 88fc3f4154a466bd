// The sizes that kernels of run-time models are compiled for, as lists.
#pragma once

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Head dimensions, and chunks of retrieval, that a RuntimeModel is compiled for. Each pair of the
// two is a mixer type more to compile; `RuntimeModel<T>(config, Kernels<…>())` takes lists of your
// own, for sizes of which every bit and every cycle counts.
template <Index... values>
struct Sizes {};
template <class HeadDims, class Chunks>
struct Kernels {};
using CommonHeadDims = Sizes<16, 32, 64, 128>;
using CommonChunks = Sizes<16, 32, 64, 128>;
using CommonKernels = Kernels<CommonHeadDims, CommonChunks>;

// 0 for none.
template <Index... values>
constexpr Index largest_size(Sizes<values...>) noexcept {
    Index found = 0;
    ((found = values > found ? values : found), ...);
    return found;
}
// The smallest of the sizes that is at least what is wanted; 0 when none is.
template <Index... values>
constexpr Index size_with_room(Sizes<values...>, Index wanted) noexcept {
    Index found = 0;
    ((found = values >= wanted && (found == 0 || values < found) ? values : found), ...);
    return found;
}

}  // namespace HYDRALM_NAMESPACE
