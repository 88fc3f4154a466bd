// HydraLM<wide_remembering>, compiled for every test.
#include "support/small_model.hpp"

template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::wide_remembering, float>::forward(const hydralm::token_id*,
                                                                  hydralm::Streams, hydralm::Index,
                                                                  hydralm::Form,
                                                                  hydralm::Arena&) const noexcept;
template void hydralm::ModelOf<hydralm::test::wide_remembering, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
