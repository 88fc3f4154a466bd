// HydraLM<config, T>: one configuration as one type, the LanguageModel that it spells.
#pragma once

#include "hydralm/model/language_model.hpp"
#include "hydralm/model/structure.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state, float or double. Configs that differ in nothing that
// is computed are the same LanguageModel.
template <HydraConfig given, Real T = float>
class HydraLM : public ModelOf<given, T> {
    static_assert(ValidConfig<given>::value);

public:
    using ModelOf<given, T>::ModelOf;
    static constexpr HydraConfig config = detail::usable(given);
    static constexpr double initializer_range = config.initializer_range;
};

}  // namespace HYDRALM_NAMESPACE
