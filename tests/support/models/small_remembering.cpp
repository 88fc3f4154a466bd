// HydraLM<small_remembering>, compiled for every test.
#include "support/small_model.hpp"

template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::small_remembering, float>::forward(const hydralm::token_id*,
                                                                   hydralm::Streams, hydralm::Index,
                                                                   hydralm::Form,
                                                                   hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::small_remembering, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::small_remembering, double>::forward(const hydralm::token_id*,
                                                                    hydralm::Streams,
                                                                    hydralm::Index, hydralm::Form,
                                                                    hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::small_remembering, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
