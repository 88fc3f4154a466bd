// Initialisation: the two schemes of starting weights, by the law of each parameter.
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

struct InitOptions {
    InitScheme scheme = InitScheme::normal;
    // Instead of the law's: the α half of the bias of the gates, and a factor on their weights.
    std::optional<double> decay_bias{};
    double gate_scale = 1.0;
};

namespace detail {

// What a law's numbers come to for a tensor: the half width, deviation or constant.
inline double drawn_scale(const Draw& draw, const ParameterInfo& info, double range,
                          double depth) noexcept {
    double scale = draw.value;
    if (draw.by_fan)
        scale *= 1.0 / std::sqrt(static_cast<double>(draw.fan > 0 ? draw.fan : info.cols()));
    if (draw.by_range) scale *= range;
    return draw.by_depth ? scale / depth : scale;
}

// values of a tensor from its own random stream. The same float values for any scalar.
template <Real T>
void draw_tensor(const Draw& draw, double scale, Random& random, std::span<T> values) {
    const auto fill = [](std::span<T> part, auto next) {
        for (T& value : part) value = static_cast<T>(static_cast<float>(next()));
    };
    switch (draw.kind) {
        case Draw::Kind::constant: fill(values, [&] { return scale; }); break;
        case Draw::Kind::first_half:
            fill(values.first(values.size() / 2), [&] { return scale; });
            fill(values.subspan(values.size() / 2), [] { return 0.0; });
            break;
        case Draw::Kind::uniform:
            fill(values, [&] { return random.uniform(-scale, scale); });
            break;
        case Draw::Kind::normal: fill(values, [&] { return scale * random.normal(); }); break;
    }
}

}  // namespace detail

// Draws every parameter of a model, or of a Standalone layer, as its law says. Each tensor has its
// own random stream of the seed (its place in file order), so a tensor's values do not depend on
// the others. The same seed gives the same float values for any scalar.
template <class Model>
void initialise(Model& model, std::uint64_t seed, const InitOptions& options) {
    using T = typename Model::Scalar;
    const double depth = std::sqrt(2.0 * static_cast<double>(model.layers));
    std::uint64_t tensor = 0;
    model.set_parameters([&](const ParameterInfo& info, std::span<T> values) {
        Random random(seed, tensor++);
        const ParameterLaw& law = info.law;
        Draw draw = options.scheme == InitScheme::fan_in ? law.fan_in : law.normal;
        if (law.role == ParameterRole::decay_bias && options.decay_bias)
            draw.value = *options.decay_bias;
        double scale = detail::drawn_scale(draw, info, model.initializer_range, depth);
        if (law.role == ParameterRole::gate) scale *= options.gate_scale;
        detail::draw_tensor(draw, scale, random, values);
    });
}
template <class Model>
void initialise(Model& model, std::uint64_t seed, InitScheme scheme) {
    initialise(model, seed, InitOptions{.scheme = scheme});
}

}  // namespace HYDRALM_NAMESPACE
