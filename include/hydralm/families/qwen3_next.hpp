// Qwen3-Next where its MLPs are dense: the layers of Qwen3.5, the projections of a Gated DeltaNet
// in one block for every key head.
#pragma once

#include <algorithm>
#include <string>

#include "hydralm/families/qwen3_5.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

// Layer i has experts unless mlp_only_layers names it, every decoder_sparse_step-th.
inline void expect_dense(const PublishedConfig& config) {
    const auto* const experts = config.find("num_experts");
    if (experts == nullptr || *experts == 0) return;
    const auto* const dense = config.find("mlp_only_layers");
    const Index step = config.size_or("decoder_sparse_step", 1);
    for (Index i = 0; i < config.size("num_hidden_layers"); ++i) {
        const bool named = dense != nullptr && dense->is_array() &&
                           std::count(dense->begin(), dense->end(), i) > 0;
        if (!named && (i + 1) % step == 0)
            config.refuse(
                "num_experts", "0: dense MLPs",
                hydralm::detail::shown(*experts) + ", layer " + std::to_string(i) + " is sparse");
    }
}

// Of key head h, in_proj_qkvz has rows q, k, v and z, of the r value heads that share it;
// in_proj_ba b and a.
inline void put_interleaved(TensorMap& map, const std::string& mixer, const std::string& p,
                            const RuntimeGroupedDeltaNetShape& s) {
    const Index r = s.value_heads / s.key_heads, Dk = s.key_dim, values = r * s.value_dim,
                block = 2 * Dk + 2 * values;
    // Of every key head, `count` of the rows it has in a tensor that has `each` of them for it.
    const auto of_heads = [&](const char* tensor, Index each, Index first, Index count) {
        return TensorRows{p + tensor, s.key_heads * each, first, count, s.key_heads, each};
    };
    const auto qkvz = [&](Index first, Index count) {
        return of_heads("in_proj_qkvz.weight", block, first, count);
    };
    map.put(mixer + "qkv_proj.weight", {qkvz(0, Dk), qkvz(Dk, Dk), qkvz(2 * Dk, values)});
    map.put(mixer + "gate_proj.weight", {qkvz(2 * Dk + values, values)});
    map.put(mixer + "ab_proj.weight", {of_heads("in_proj_ba.weight", 2 * r, r, r),
                                       of_heads("in_proj_ba.weight", 2 * r, 0, r)});
}

}  // namespace detail

inline constexpr Family qwen3_next{.model_types = {"qwen3_next", "qwen3_next"},
                                   .shape =
                                       [](const PublishedConfig& config) {
                                           detail::expect_dense(config);
                                           return detail::qwen_shape(config);
                                       },
                                   .tensors =
                                       [](const HybridShape& shape, const Checkpoint& checkpoint) {
                                           return detail::qwen_tensors(shape, checkpoint,
                                                                       detail::put_interleaved);
                                       },
                                   .mtp_tensors = qwen_mtp_tensors};

}  // namespace HYDRALM_NAMESPACE::families
