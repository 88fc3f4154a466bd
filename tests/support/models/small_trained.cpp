// HydraLM<small_trained> and its gradients, compiled for every test.
#include "support/shared_gradients.hpp"

template hydralm::MatrixView<float> hydralm::ModelOf<hydralm::test::small_trained, float>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::small_trained, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
template class hydralm::Gradients<hydralm::HydraLM<hydralm::test::small_trained, float>>;
