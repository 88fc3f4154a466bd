// Gradients of golden models, compiled for every test.
#include "support/shared_gradients.hpp"

template class hydralm::Gradients<hydralm::HydraLM<hydralm::test::default_schedule_8l, float>>;
template class hydralm::Gradients<hydralm::HydraLM<hydralm::test::hybrid_4l, double>>;
