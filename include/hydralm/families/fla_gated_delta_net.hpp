// GatedDeltaNet of flash-linear-attention, pure or with attention.
#pragma once

#include <string>

#include "hydralm/families/fla.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

inline OutputGate fla_gate(const PublishedConfig& config) {
    const std::string activation = config.text_or("output_gate_activation", "swish");
    if (!config.flag_or("use_gate", true)) return OutputGate::none;
    if (activation == "sigmoid") return OutputGate::sigmoid;
    config.expect_silu("output_gate_activation");
    return OutputGate::silu;
}

inline HybridShape fla_gated_delta_net_shape(const PublishedConfig& config) {
    HybridShape shape = fla_sizes(config);
    RuntimeGroupedDeltaNetShape linear = fla_linear(config, shape, 2.0);
    linear.gate = fla_gate(config);
    put_fla_layers(config, linear, shape);
    return shape;
}

}  // namespace detail

inline constexpr Family fla_gated_delta_net{.model_types = {"gated_deltanet", "gated_deltanet"},
                                            .shape = detail::fla_gated_delta_net_shape,
                                            .tensors = detail::fla_tensors};

}  // namespace HYDRALM_NAMESPACE::families
