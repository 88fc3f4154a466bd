// LayerWatch: whoever does something between the layers of a stack.
#pragma once

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Told by a stack as it computes its layers: first to last on the way forward, last to first on the
// way back. Its functions throw nothing, for layers cannot be left half computed: take what memory
// they need before, or the process ends (std::terminate) where there is none.
class LayerWatch {
public:
    LayerWatch() = default;
    LayerWatch(const LayerWatch&) = delete;
    LayerWatch& operator=(const LayerWatch&) = delete;
    virtual ~LayerWatch() = default;

    // Before layer i reads what its streams carry; on the way back, the gradient of that.
    virtual void before(Index) noexcept {}
    // Behind it.
    virtual void after(Index) noexcept {}
};

}  // namespace HYDRALM_NAMESPACE
