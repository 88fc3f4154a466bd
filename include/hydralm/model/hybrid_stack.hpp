// The run-time stack of a HybridShape.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/hybrid_shape.hpp"
#include "hydralm/model/runtime_stack.hpp"

namespace HYDRALM_NAMESPACE::detail {

// All that is large to compile of a hybrid is here: `extern template` of this spares it
// (docs/using.md).
template <Real T>
std::unique_ptr<ErasedBlock<T>> make_hybrid_block(const HybridShape& shape,
                                                  const HybridLayer& layer) {
    using Mlp = SwiGLU<T, RuntimeMlpShape>;
    using Norm = RmsNorm<T, RuntimeNormShape>;
    const Mlp mlp({shape.d_model, shape.hidden});
    const Norm norm({shape.d_model, shape.epsilon});
    const auto made = [&](auto block) -> std::unique_ptr<ErasedBlock<T>> {
        return std::make_unique<ErasedBlockOf<decltype(block)>>(block);
    };
    if (const auto* delta_net = layer.delta_net())
        return made(
            Block<GroupedDeltaNet<T>, Mlp, Norm>(GroupedDeltaNet<T>(*delta_net), mlp, norm));
    const GroupedAttention<T> mixer(*layer.attention());
    if (layer.norm == NormPlace::before)
        return made(Block<GroupedAttention<T>, Mlp, Norm>(mixer, mlp, norm));
    return made(Block<GroupedAttention<T>, Mlp, Norm, PostNormResidual>(mixer, mlp, norm));
}

template <Real T>
RuntimeStack<T> make_hybrid_stack(const HybridShape& shape) {
    std::vector<std::unique_ptr<ErasedBlock<T>>> blocks;
    for (const HybridLayer& layer : shape.layers)
        blocks.push_back(make_hybrid_block<T>(shape, layer));
    return {shape.d_model, std::move(blocks)};
}

}  // namespace HYDRALM_NAMESPACE::detail
