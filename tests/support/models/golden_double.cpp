// The golden models in double, compiled for every test.
#include "support/golden_model.hpp"

template hydralm::MatrixView<double> hydralm::ModelOf<hydralm::test::hybrid_4l, double>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::hybrid_4l, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::default_schedule_8l, double>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::default_schedule_8l, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::no_qk_norm_2l, double>::forward(const hydralm::token_id*,
                                                                hydralm::Streams, hydralm::Index,
                                                                hydralm::Form,
                                                                hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::no_qk_norm_2l, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
