// KDA of flash-linear-attention, Kimi Delta Attention, pure or with attention: a Gated DeltaNet
// with a decay for every key channel; decay and gate are projected through as many numbers as a
// head has values.
#pragma once

#include <string>

#include "hydralm/families/fla.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

inline HybridShape fla_kda_shape(const PublishedConfig& config) {
    for (const char* const field : {"safe_gate", "lower_bound"}) config.expect_absent(field);
    HybridShape shape = fla_sizes(config);
    RuntimeGroupedDeltaNetShape linear = fla_linear(config, shape, 1.0);
    if (linear.key_dim > kernels::gated_delta_most_channels)
        config.refuse("head_dim", "at most " + std::to_string(kernels::gated_delta_most_channels),
                      std::to_string(linear.key_dim));
    linear.gate = OutputGate::sigmoid;
    linear.decay_rank = linear.gate_rank = linear.value_dim;
    put_fla_layers(config, linear, shape);
    return shape;
}

}  // namespace detail

inline constexpr Family fla_kda{
    .model_types = {"kda", "kda"}, .shape = detail::fla_kda_shape, .tensors = detail::fla_tensors};

}  // namespace HYDRALM_NAMESPACE::families
