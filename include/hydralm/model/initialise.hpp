// Initialisation: the two schemes of starting weights.
#pragma once

#include <cmath>
#include <optional>
#include <string_view>

#include "hydralm/core/random.hpp"
#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

// normal: N(0, initializer_range²) for matrices and embeddings, residual projections and an untied
// head narrower by √(2·n_layers), α bias ln(0.98/0.02). fan_in: matrices uniform ±1/√in, embeddings
// of std 1/√d, residual projections × 1.7/√(2·n_layers), α bias 4; the scheme that trains small
// models well. Both: norms 1, other biases 0, convolutions uniform ±1/√K; of retrieval layers τ 10,
// w 0.5·N(0, 1), λ 1, ℓ 0.
enum class InitScheme : std::uint8_t { normal, fan_in };

inline std::optional<InitScheme> init_scheme(std::string_view name) noexcept {
    if (name == "normal") return InitScheme::normal;
    if (name == "fan_in") return InitScheme::fan_in;
    return std::nullopt;
}

// Draws every parameter of the model. Each tensor has its own random stream of the seed (its place
// in file order), so a tensor's values do not depend on the others. The same seed gives the same
// float values for any scalar.
template <class Model>
void initialise(Model& model, std::uint64_t seed, InitScheme scheme) {
    using T = typename Model::Scalar;
    const auto& config = Model::config;
    const double depth = std::sqrt(2.0 * config.n_layers);
    const double taps = 1.0 / std::sqrt(static_cast<double>(config.dn_short_conv_kernel));
    std::uint64_t tensor = 0;
    model.set_parameters([&](const ParameterInfo& info, std::span<T> values) {
        Random random(seed, tensor++);
        const auto fill = [&](auto draw) {
            for (T& value : values) value = static_cast<T>(static_cast<float>(draw()));
        };
        const auto normal = [&](double std) { fill([&, std] { return std * random.normal(); }); };
        const auto uniform = [&](double range) {
            fill([&, range] { return random.uniform(-range, range); });
        };
        const double fan = 1.0 / std::sqrt(static_cast<double>(info.cols()));
        const bool by_fan = scheme == InitScheme::fan_in;
        switch (info.kind) {
            case ParameterKind::embedding: normal(by_fan ? fan : config.initializer_range); break;
            case ParameterKind::head:
                if (by_fan) uniform(fan);
                else normal(config.initializer_range / depth);
                break;
            case ParameterKind::projection:
            case ParameterKind::gate:
                if (by_fan) uniform(fan);
                else normal(config.initializer_range);
                break;
            case ParameterKind::residual_projection:
                if (by_fan) uniform(fan * 1.7 / depth);
                else normal(config.initializer_range / depth);
                break;
            case ParameterKind::decay_bias: {
                const double alpha = by_fan ? 4.0 : std::log(0.98 / 0.02);
                for (std::size_t i = 0; i < values.size(); ++i)
                    values[i] =
                        i < values.size() / 2 ? static_cast<T>(static_cast<float>(alpha)) : T(0);
                break;
            }
            case ParameterKind::convolution:
            case ParameterKind::convolution_bias: uniform(taps); break;
            case ParameterKind::norm: std::fill(values.begin(), values.end(), T(1)); break;
            case ParameterKind::temperature: fill([] { return std::log(10.0); }); break;
            case ParameterKind::router_gate: normal(0.5); break;
            case ParameterKind::router_bias: std::fill(values.begin(), values.end(), T(0)); break;
        }
    });
}

}  // namespace HYDRALM_NAMESPACE
