// Gradients of shared models (small_model.hpp, golden_model.hpp), compiled once as these are.
#pragma once

#include "hydralm/training/gradients.hpp"
#include "support/golden_model.hpp"
#include "support/small_model.hpp"

extern template class hydralm::Gradients<
    hydralm::HydraLM<hydralm::test::default_schedule_8l, float>>;
extern template class hydralm::Gradients<hydralm::HydraLM<hydralm::test::hybrid_4l, double>>;
extern template class hydralm::Gradients<hydralm::HydraLM<hydralm::test::small_trained, float>>;
