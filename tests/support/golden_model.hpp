// The three golden models as types, compiled once (see small_model.hpp), with their weights.
#pragma once

#include <string>

#include "hydralm/hydralm.hpp"
#include "support/golden.hpp"

namespace hydralm::test {

using enum LayerType;

inline constexpr HydraConfig hybrid_4l{.vocab_size = 61,
                                       .d_model = 32,
                                       .n_layers = 4,
                                       .n_heads = 2,
                                       .head_dim = 16,
                                       .dn_chunk_size = 8,
                                       .swa_window = 8,
                                       .layer_types = LayerTypes{deltanet, swa, deltanet, swa},
                                       .swa_every = 2};
inline constexpr HydraConfig default_schedule_8l{.vocab_size = 97,
                                                 .d_model = 48,
                                                 .n_layers = 8,
                                                 .n_heads = 3,
                                                 .head_dim = 16,
                                                 .mlp_multiple_of = 16,
                                                 .dn_chunk_size = 16,
                                                 .swa_window = 16};
inline constexpr HydraConfig no_qk_norm_2l{.vocab_size = 40,
                                           .d_model = 32,
                                           .n_layers = 2,
                                           .n_heads = 2,
                                           .head_dim = 16,
                                           .dn_chunk_size = 8,
                                           .dn_norm_qk = false,
                                           .swa_window = 12,
                                           .swa_every = 2};

}  // namespace hydralm::test

extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::hybrid_4l, float>::forward(const hydralm::token_id*,
                                                           hydralm::Streams, hydralm::Index,
                                                           hydralm::Form,
                                                           hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::hybrid_4l, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::hybrid_4l, double>::forward(const hydralm::token_id*,
                                                            hydralm::Streams, hydralm::Index,
                                                            hydralm::Form,
                                                            hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::hybrid_4l, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::default_schedule_8l, float>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::default_schedule_8l, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::default_schedule_8l, double>::forward(
    const hydralm::token_id*, hydralm::Streams, hydralm::Index, hydralm::Form,
    hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::default_schedule_8l, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::no_qk_norm_2l, float>::forward(const hydralm::token_id*,
                                                               hydralm::Streams, hydralm::Index,
                                                               hydralm::Form,
                                                               hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::no_qk_norm_2l, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::no_qk_norm_2l, double>::forward(const hydralm::token_id*,
                                                                hydralm::Streams, hydralm::Index,
                                                                hydralm::Form,
                                                                hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::no_qk_norm_2l, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;

namespace hydralm::test {

// The weights of tests/golden/model/<name> in a model of the matching configuration.
template <class Model>
Model golden_model(const std::string& name) {
    const GoldenFile file = read_golden("model/" + name + "/model.safetensors");
    Model model;
    model.set_parameters([&](const ParameterInfo& info, auto values) {
        const auto& stored = file[std::string(info.name())];
        if (stored.values.size() != values.size())
            throw std::runtime_error("golden vectors: size of " + std::string(info.name()));
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<typename Model::Scalar>(stored.values[i]);
    });
    return model;
}

}  // namespace hydralm::test
