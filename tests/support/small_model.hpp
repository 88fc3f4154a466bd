// Small models with random weights, random texts, and comparison of bits.
//
// The models of several test files are compiled once, in support/models/, into the library that
// every such test is linked to. To add one: its config here, two `extern template` below, and the
// `template` of the same in a file of support/models/, whose name goes into tests/meson.build.
#pragma once

#include <limits>
#include <span>
#include <vector>

#include "hydralm/hydralm.hpp"
#include "support/compare.hpp"

namespace hydralm::test {

// Both mixers; widths that fit no vector; an MLP width and a vocabulary that fit no panel.
inline constexpr HydraConfig small_hybrid{.vocab_size = 53,
                                          .d_model = 24,
                                          .n_layers = 3,
                                          .n_heads = 2,
                                          .mlp_multiple_of = 5,
                                          .swa_window = 24,
                                          .swa_every = 3};

// All three mixers; every chunk is kept, so that rounding moves no selection.
inline constexpr HydraConfig small_remembering{.vocab_size = 53,
                                               .d_model = 24,
                                               .n_layers = 4,
                                               .n_heads = 2,
                                               .mlp_multiple_of = 5,
                                               .swa_window = 24,
                                               .swa_every = 4,
                                               .retrieval_every = 3,
                                               .retrieval_chunk_size = 13,
                                               .retrieval_top_k = 64};

// All three mixers, wide enough that products, heads and streams are split between threads; a few
// of the chunks are kept.
inline constexpr HydraConfig wide_remembering{.vocab_size = 301,
                                              .d_model = 160,
                                              .n_layers = 3,
                                              .n_heads = 5,
                                              .swa_window = 100,
                                              .swa_every = 3,
                                              .retrieval_every = 2,
                                              .retrieval_chunk_size = 32,
                                              .retrieval_top_k = 4};

// What is trained in few steps; bytes as tokens.
inline constexpr HydraConfig small_trained{.vocab_size = 256,
                                           .d_model = 16,
                                           .n_layers = 2,
                                           .n_heads = 2,
                                           .mlp_multiple_of = 8,
                                           .swa_window = 9,
                                           .swa_every = 2};

// All three mixers, and two modules to draft with.
inline constexpr HydraConfig small_drafting{.vocab_size = 11,
                                            .d_model = 24,
                                            .n_layers = 4,
                                            .n_heads = 2,
                                            .mlp_multiple_of = 5,
                                            .swa_window = 24,
                                            .swa_every = 4,
                                            .retrieval_every = 3,
                                            .retrieval_chunk_size = 13,
                                            .retrieval_top_k = 64,
                                            .mtp_depth = 2};

// Attention to the whole past with grouped keys, between retrieval and a window.
inline constexpr HydraConfig small_full{
    .vocab_size = 53,
    .d_model = 24,
    .n_layers = 4,
    .n_heads = 4,
    .head_dim = 8,
    .n_kv_heads = 2,
    .mlp_multiple_of = 5,
    .swa_window = 24,
    .layer_types = {LayerType::full, LayerType::retrieval, LayerType::full, LayerType::swa},
    .retrieval_chunk_size = 13,
    .retrieval_top_k = 64};

}  // namespace hydralm::test

extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::small_hybrid, float>::forward(const hydralm::token_id*,
                                                              hydralm::Streams, hydralm::Index,
                                                              hydralm::Form,
                                                              hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::small_hybrid, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::small_hybrid, double>::forward(const hydralm::token_id*,
                                                               hydralm::Streams, hydralm::Index,
                                                               hydralm::Form,
                                                               hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::small_hybrid, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::small_remembering, float>::forward(const hydralm::token_id*,
                                                                   hydralm::Streams, hydralm::Index,
                                                                   hydralm::Form,
                                                                   hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::small_remembering, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<double>
hydralm::ModelOf<hydralm::test::small_remembering, double>::forward(const hydralm::token_id*,
                                                                    hydralm::Streams,
                                                                    hydralm::Index, hydralm::Form,
                                                                    hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::small_remembering, double>::head(
    hydralm::MatrixView<const double>, hydralm::MatrixView<double>) const noexcept;
extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::wide_remembering, float>::forward(const hydralm::token_id*,
                                                                  hydralm::Streams, hydralm::Index,
                                                                  hydralm::Form,
                                                                  hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::wide_remembering, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::small_trained, float>::forward(const hydralm::token_id*,
                                                               hydralm::Streams, hydralm::Index,
                                                               hydralm::Form,
                                                               hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::small_trained, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;
extern template hydralm::MatrixView<float>
hydralm::ModelOf<hydralm::test::small_drafting, float>::forward(const hydralm::token_id*,
                                                                hydralm::Streams, hydralm::Index,
                                                                hydralm::Form,
                                                                hydralm::Arena&) const noexcept;
extern template void hydralm::ModelOf<hydralm::test::small_drafting, float>::head(
    hydralm::MatrixView<const float>, hydralm::MatrixView<float>) const noexcept;

namespace hydralm::test {

// Every way for banks to keep the past but in a file.
inline std::vector<BankPolicy> bank_policies() {
    return {{},
            {.format = BankFormat::bf16},
            {.format = BankFormat::int8},
            {.open_groups = 1},
            {.exact_chunks = 2, .pooled_chunks = 3},
            {.format = BankFormat::int8, .exact_chunks = 1, .pooled_chunks = 70}};
}

template <class Model>
Model random_model(std::uint64_t seed) {
    Model model;
    initialise(model, seed, InitScheme::fan_in);
    return model;
}

inline std::vector<token_id> random_tokens(Index N, int vocab_size, std::uint64_t seed) {
    Random random(seed, 77);
    std::vector<token_id> tokens(static_cast<std::size_t>(N));
    for (token_id& token : tokens)
        token = static_cast<token_id>(random.below(static_cast<std::uint64_t>(vocab_size)));
    return tokens;
}

inline std::span<const token_id> slice(std::span<const token_id> tokens, Index first, Index count) {
    return tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

// Logits [N, V] of tokens fed in pieces that end at the given positions and at the end; NaN where
// nothing was written.
template <class Model>
std::vector<typename Model::Scalar> logits_in_pieces(const Model& model,
                                                     typename Model::State& state,
                                                     std::span<const token_id> tokens,
                                                     std::vector<Index> ends = {},
                                                     Form form = Form::parallel) {
    using T = typename Model::Scalar;
    constexpr Index V = Model::vocab_size();
    const auto N = static_cast<Index>(tokens.size());
    std::vector<T> out(static_cast<std::size_t>(N * V), std::numeric_limits<T>::quiet_NaN());
    const MatrixView<T> rows(out.data(), N, V);
    ends.push_back(N);
    Index first = 0;
    for (const Index end : ends) {
        model.logits(slice(tokens, first, end - first), state, rows.middle_rows(first, end - first),
                     form);
        first = end;
    }
    return out;
}

// Whether two streams carry on the same bits.
inline bool same_state(const StreamMemory& a, const StreamMemory& b) {
    return a.position() == b.position() && same_bits(a.bytes(), b.bytes()) &&
           a.bank_bytes() == b.bank_bytes();
}

// Logits [N, V] of tokens fed one by one.
template <class Model>
std::vector<typename Model::Scalar> logits_by_step(const Model& model, typename Model::State& state,
                                                   std::span<const token_id> tokens) {
    std::vector<typename Model::Scalar> out;
    for (const token_id token : tokens) {
        const auto logits = model.step(token, state);
        out.insert(out.end(), logits.begin(), logits.end());
    }
    return out;
}

}  // namespace hydralm::test
