// The loss of labelled hidden rows under a model's head, a few rows of logits at a time, and its
// gradient.
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

inline constexpr Index head_rows = 256;  // labelled tokens whose logits exist at a time

// Arena that head_loss and head_loss_backward take and give back.
template <class Model>
Index head_loss_workspace_bytes(const Model& model, Index rows) noexcept {
    const Index most = std::min(rows, head_rows);
    return arena_bytes<typename Model::Scalar>(most * model.d_model()) +
           arena_bytes<typename Model::Scalar>(most * model.vocab_size()) +
           arena_bytes<double>(most) + arena_bytes<token_id>(most) + arena_bytes<Index>(most);
}

namespace detail {

// Copies of labelled rows, head_rows at most, and what the loss makes of them. labels[i] and
// losses[i] belong to rows.row(i), which is row at[i] of all.
template <class T>
struct LabelledRows {
    MatrixView<T> rows, logits;
    std::span<token_id> labels;
    std::span<double> losses;
    std::span<Index> at;
};

// f(labelled rows, their logits among them), head_rows at a time; the sum. The head costs what is
// asked: rows without a label are not multiplied.
template <class Model, class F>
kernels::LossSum for_labelled_rows(const Model& model,
                                   MatrixView<const typename Model::Scalar> hidden,
                                   std::span<const token_id> labels, Arena& scratch, const F& f) {
    using T = typename Model::Scalar;
    const Arena::Scope scope(scratch);
    const Index most = std::min(hidden.rows(), head_rows);
    const auto rows = take_matrix<T>(scratch, most, hidden.cols());
    const auto logits = take_matrix<T>(scratch, most, model.vocab_size());
    double* const losses = scratch.take<double>(most);
    token_id* const wanted = scratch.take<token_id>(most);
    Index* const at = scratch.take<Index>(most);
    kernels::LossSum total;
    for (Index n = 0; n < hidden.rows();) {
        Index count = 0;
        for (; n < hidden.rows() && count < most; ++n) {
            const token_id label = labels[static_cast<std::size_t>(n)];
            if (label == kernels::ignore_index) continue;
            std::copy_n(hidden.row(n), hidden.cols(), rows.row(count));
            wanted[count] = label;
            at[count++] = n;
        }
        if (count == 0) break;
        const auto size = static_cast<std::size_t>(count);
        const LabelledRows<T> part{rows.middle_rows(0, count),
                                   logits.middle_rows(0, count),
                                   {wanted, size},
                                   {losses, size},
                                   {at, size}};
        model.head(part.rows, part.logits);
        const kernels::LossSum sum = f(part);
        total.sum += sum.sum;
        total.count += sum.count;
    }
    return total;
}

}  // namespace detail

// Σ cross-entropy of labels [M] under head(hidden [M, d]), hidden after norm_f. No allocation.
// Cost: that of the rows that have a label.
template <class Model>
kernels::LossSum head_loss(const Model& model, MatrixView<const typename Model::Scalar> hidden,
                           std::span<const token_id> labels, Arena& scratch) noexcept {
    using T = typename Model::Scalar;
    return detail::for_labelled_rows(model, hidden, labels, scratch, [](const auto& part) {
        return kernels::cross_entropy<T>(part.logits, part.labels, part.losses);
    });
}

// The same, and the gradient of scale times it: dhidden [M, d], apart from hidden, is written, 0
// where there is no label; that of the head's weights is added to gradients. transposed: weights as
// TransposedStorage has them.
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
    for (Index n = 0; n < dhidden.rows(); ++n) std::fill_n(dhidden.row(n), dhidden.cols(), T(0));
    return detail::for_labelled_rows(model, hidden, labels, scratch, [&](const auto& part) {
        const auto sum = kernels::cross_entropy_backward<T>(part.logits, part.labels, scale,
                                                            part.logits, part.losses);
        kernels::matmul_gradient(part.logits, part.rows, gradient);
        kernels::matmul(part.logits, weights, part.rows);  // the rows have been read
        for (std::size_t i = 0; i < part.at.size(); ++i)
            std::copy_n(part.rows.row(static_cast<Index>(i)), dhidden.cols(),
                        dhidden.row(part.at[i]));
        return sum;
    });
}

}  // namespace HYDRALM_NAMESPACE
