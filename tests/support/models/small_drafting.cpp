// HydraLM<small_drafting>, compiled for every test.
#include "support/small_model.hpp"

template hydralm::MatrixView<float> hydralm::ModelOf<hydralm::test::small_drafting, float>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::small_drafting, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
