// The run-time stack of a HybridShape.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "hydralm/layers/grouped_attention_backward.hpp"
#include "hydralm/layers/grouped_delta_net_backward.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/hybrid_shape.hpp"
#include "hydralm/model/runtime_stack.hpp"

namespace HYDRALM_NAMESPACE {

// The layers of a hybrid, which are all that is large to compile of it: `extern template struct
// hydralm::HybridBlock<float>;` compiles them once, as RuntimeBlock's.
template <Real T>
struct HybridBlock {
    // One layer of a valid shape, with the norms where it has them.
    static std::unique_ptr<ErasedBlock<T>> make(const HybridShape& shape, const HybridLayer& layer);
};

template <Real T>
std::unique_ptr<ErasedBlock<T>> HybridBlock<T>::make(const HybridShape& shape,
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

namespace detail {

template <Real T>
RuntimeStack<T> make_hybrid_stack(const HybridShape& shape) {
    std::vector<std::unique_ptr<ErasedBlock<T>>> blocks;
    for (const HybridLayer& layer : shape.layers)
        blocks.push_back(HybridBlock<T>::make(shape, layer));
    return {shape.d_model, std::move(blocks)};
}

}  // namespace detail

}  // namespace HYDRALM_NAMESPACE
