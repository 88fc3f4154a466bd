// HydraLM<config, T, Weights>: one configuration as one type, the LanguageModel that it spells.
#pragma once

#include "hydralm/model/language_model.hpp"
#include "hydralm/model/structure.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state, float or double. Weights: what matrices are kept in.
// Configs that differ in nothing that
// is computed are the same LanguageModel.
template <HydraConfig given, Real T = float, class Weights = weights::Float>
class HydraLM : public ModelOf<given, T, Weights> {
    static_assert(ValidConfig<given>::value);

public:
    using ModelOf<given, T, Weights>::ModelOf;
    static constexpr HydraConfig config = detail::usable(given);
    static constexpr double initializer_range = config.initializer_range;
};

}  // namespace HYDRALM_NAMESPACE
