// The law of a parameter: how it begins, which optimiser moves it, whether it decays, which formats
// it may be kept in. Stated where a module declares the tensor.
#pragma once

#include <array>
#include <concepts>
#include <string_view>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// What a tensor is for: what policies and reports speak of.
enum class ParameterRole : std::uint8_t {
    embedding,            // rows looked up by token, and the tied head
    head,                 // untied head
    projection,           // into a mixer or an MLP
    residual_projection,  // back into the residual stream: o_proj, w_down
    gate,                 // of the state, a number or two a head
    output_gate,          // as wide as the mixer
    decay_bias,
    convolution,
    norm,
    router,  // how retrieval attention weighs chunks
    other,
};

// How the elements of a tensor begin.
struct Draw {
    enum class Kind : std::uint8_t {
        constant,    // value
        first_half,  // value in the first half, 0 in the second
        uniform,     // in ± value
        normal,      // N(0, value²)
    };
    Kind kind = Kind::constant;
    double value = 0.0;
    bool by_range = false;  // × initializer_range
    bool by_fan = false;    // ÷ √in, the columns of the tensor, or √fan where that is not 0
    bool by_depth = false;  // ÷ √(2 · layers)
    Index fan = 0;
};

// Muon moves matrices in the hybrid optimiser, AdamW all else.
enum class OptimiserGroup : std::uint8_t { adamw, muon };
constexpr std::string_view name(OptimiserGroup group) noexcept {
    return group == OptimiserGroup::muon ? "muon" : "adamw";
}

struct ParameterLaw {
    ParameterRole role = ParameterRole::other;
    Draw normal{};  // under InitScheme::normal
    Draw fan_in{};  // under InitScheme::fan_in
    OptimiserGroup group = OptimiserGroup::adamw;
    bool decayed = false;
    bool any_format = false;  // may be kept in fewer bits than the scalar has
};

namespace laws {

inline constexpr ParameterLaw embedding{
    .role = ParameterRole::embedding,
    .normal = {.kind = Draw::Kind::normal, .value = 1.0, .by_range = true},
    .fan_in = {.kind = Draw::Kind::normal, .value = 1.0, .by_fan = true},
    .any_format = true};
inline constexpr ParameterLaw head{
    .role = ParameterRole::head,
    .normal = {.kind = Draw::Kind::normal, .value = 1.0, .by_range = true, .by_depth = true},
    .fan_in = {.kind = Draw::Kind::uniform, .value = 1.0, .by_fan = true},
    .decayed = true,
    .any_format = true};
inline constexpr ParameterLaw projection{
    .role = ParameterRole::projection,
    .normal = {.kind = Draw::Kind::normal, .value = 1.0, .by_range = true},
    .fan_in = {.kind = Draw::Kind::uniform, .value = 1.0, .by_fan = true},
    .group = OptimiserGroup::muon,
    .decayed = true,
    .any_format = true};
inline constexpr ParameterLaw residual_projection{
    .role = ParameterRole::residual_projection,
    .normal = {.kind = Draw::Kind::normal, .value = 1.0, .by_range = true, .by_depth = true},
    .fan_in = {.kind = Draw::Kind::uniform, .value = 1.7, .by_fan = true, .by_depth = true},
    .group = OptimiserGroup::muon,
    .decayed = true,
    .any_format = true};
// gate_proj.
inline constexpr ParameterLaw output_gate{.role = ParameterRole::output_gate,
                                          .normal = projection.normal,
                                          .fan_in = projection.fan_in,
                                          .decayed = true,
                                          .any_format = true};
// A number or two a head, ab_proj: small, and everything hangs on it.
inline constexpr ParameterLaw gate{.role = ParameterRole::gate,
                                   .normal = projection.normal,
                                   .fan_in = projection.fan_in,
                                   .decayed = true};
// ab_proj.bias, α half first: σ is 0.98 of the one, of the other's 4 is 0.982.
inline constexpr ParameterLaw decay_bias{
    .role = ParameterRole::decay_bias,
    .normal = {.kind = Draw::Kind::first_half, .value = 3.8918202981106265},  // ln(0.98 / 0.02)
    .fan_in = {.kind = Draw::Kind::first_half, .value = 4.0}};
inline constexpr ParameterLaw convolution{
    .role = ParameterRole::convolution,
    .normal = {.kind = Draw::Kind::uniform, .value = 1.0, .by_fan = true},
    .fan_in = {.kind = Draw::Kind::uniform, .value = 1.0, .by_fan = true},
    .decayed = true};
// Of a convolution of so many taps.
constexpr ParameterLaw convolution_bias(Index taps) noexcept {
    const Draw draw{.kind = Draw::Kind::uniform, .value = 1.0, .by_fan = true, .fan = taps};
    return {.role = ParameterRole::convolution, .normal = draw, .fan_in = draw};
}
// Begins as one number under either scheme.
constexpr ParameterLaw constant(ParameterRole role, double value) noexcept {
    return {.role = role, .normal = {.value = value}, .fan_in = {.value = value}};
}
inline constexpr ParameterLaw norm = constant(ParameterRole::norm, 1.0);

}  // namespace laws

// Matrices stacked in one tensor, first to last (q, k, v; gate, up): each is orthogonalised by
// itself.
struct Parts {
    std::array<Index, 4> rows{};  // of each; empty: all the same
    int count = 1;

    constexpr Parts() = default;
    constexpr Parts(int equal) noexcept : count(equal) {}
    template <std::convertible_to<Index>... Rest>
        requires(sizeof...(Rest) <= 2)
    constexpr Parts(Index first, Index second, Rest... rest) noexcept
        : rows{first, second, static_cast<Index>(rest)...}, count(2 + sizeof...(rest)) {}
    // Whether they are a tensor of so many rows.
    constexpr bool make(Index all) const noexcept {
        Index sum = 0;
        for (int i = 0; i < count; ++i) sum += height(i, all);
        return sum == all;
    }
    // Rows of part i of a tensor of so many.
    constexpr Index height(int i, Index all) const noexcept {
        return rows[0] == 0 ? all / count : rows[static_cast<std::size_t>(i)];
    }
};

}  // namespace HYDRALM_NAMESPACE
