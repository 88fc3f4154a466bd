// The loss of hidden rows under a model's head, a few rows of logits at a time, and its gradient.
#pragma once

#include <algorithm>
#include <span>

#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"
#include "hydralm/layers/module.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// Labels of a loss: labels[n] is predicted from tokens up to n. No loss where it is
// kernels::ignore_index.
inline void check_labels(std::span<const token_id> labels, std::size_t tokens, Index vocab_size) {
    if (labels.size() != tokens)
        raise({.field = "labels",
               .expected = std::to_string(tokens) + ", one per token",
               .found = std::to_string(labels.size()),
               .fix = "give every token a label, or -100 for none"});
    for (std::size_t i = 0; i < labels.size(); ++i)
        if (labels[i] != kernels::ignore_index && (labels[i] < 0 || labels[i] >= vocab_size))
            raise({.field = "label " + std::to_string(i),
                   .expected = "an id in [0, " + std::to_string(vocab_size) + "), or -100 for none",
                   .found = std::to_string(labels[i]),
                   .fix = "use the tokeniser the model was made for"});
}

inline constexpr Index head_rows = 256;  // tokens whose logits exist at a time

// Arena that head_loss and head_loss_backward take and give back.
template <class Model>
Index head_loss_workspace_bytes(const Model& model, Index rows) noexcept {
    return arena_bytes<typename Model::Scalar>(std::min(rows, head_rows) * model.vocab_size()) +
           arena_bytes<double>(std::min(rows, head_rows));
}

namespace detail {

// f(rows of hidden, their labels, logits, losses, first row), head_rows at a time; the sum.
template <class Model, class F>
kernels::LossSum for_head_rows(const Model& model, MatrixView<const typename Model::Scalar> hidden,
                               std::span<const token_id> labels, Arena& scratch, const F& f) {
    const Arena::Scope scope(scratch);
    const Index most = std::min(hidden.rows(), head_rows);
    const auto buffer = take_matrix<typename Model::Scalar>(scratch, most, model.vocab_size());
    double* const losses = scratch.take<double>(most);
    kernels::LossSum total;
    for (Index first = 0; first < hidden.rows(); first += most) {
        const Index count = std::min(most, hidden.rows() - first);
        const auto rows = hidden.middle_rows(first, count);
        const auto logits = buffer.middle_rows(0, count);
        model.head(rows, logits);
        const kernels::LossSum part = f(
            rows, labels.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
            logits, std::span<double>(losses, static_cast<std::size_t>(count)), first);
        total.sum += part.sum;
        total.count += part.count;
    }
    return total;
}

}  // namespace detail

// Σ cross-entropy of labels [M] under head(hidden [M, d]), hidden after norm_f. No allocation.
template <class Model>
kernels::LossSum head_loss(const Model& model, MatrixView<const typename Model::Scalar> hidden,
                           std::span<const token_id> labels, Arena& scratch) noexcept {
    using T = typename Model::Scalar;
    return detail::for_head_rows(model, hidden, labels, scratch,
                                 [](auto, auto part, auto logits, auto losses, Index) {
                                     return kernels::cross_entropy<T>(logits, part, losses);
                                 });
}

// The same, and the gradient of scale times it: dhidden [M, d] is written, that of the head's
// weights added to gradients. transposed: weights as TransposedStorage has them.
template <class Model, class Transposed, class Flat>
kernels::LossSum head_loss_backward(const Model& model, const Transposed& transposed,
                                    MatrixView<const typename Model::Scalar> hidden,
                                    std::span<const token_id> labels, double scale,
                                    MatrixView<typename Model::Scalar> dhidden, Flat& gradients,
                                    Arena& scratch) noexcept {
    using T = typename Model::Scalar;
    const bool tied = model.ties_head;
    const auto& weights = tied ? transposed.embed : transposed.lm_head;
    const auto& gradient = tied ? gradients.embed : gradients.lm_head;
    return detail::for_head_rows(
        model, hidden, labels, scratch,
        [&](auto rows, auto part, auto logits, auto losses, Index first) {
            const auto sum =
                kernels::cross_entropy_backward<T>(logits, part, scale, logits, losses);
            kernels::matmul_gradient(logits, rows, gradient);
            kernels::matmul(logits, weights, dhidden.middle_rows(first, rows.rows()));
            return sum;
        });
}

}  // namespace HYDRALM_NAMESPACE
