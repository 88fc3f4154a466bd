// The golden models in float, compiled for every test.
#include "support/golden_model.hpp"

template hydralm::MatrixView<float> hydralm::ModelOf<hydralm::test::hybrid_4l, float>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::hybrid_4l, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::default_schedule_8l, float>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::default_schedule_8l, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
template hydralm::MatrixView<float> hydralm::ModelOf<hydralm::test::no_qk_norm_2l, float>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::no_qk_norm_2l, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
