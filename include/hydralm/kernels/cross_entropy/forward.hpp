// Cross-entropy at a label: ln Σ e^z − z[label], one exponential a logit.
//
// Matches reference::cross_entropy to 16 units in the last place of T in e^{loss}: an absolute
// error of the loss.
#pragma once

#include <span>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/kernels/softmax/log_sum_exp.hpp"

namespace HYDRALM_NAMESPACE::kernels {

inline constexpr token_id ignore_index = -100;  // a label that has no loss and no gradient

// ln softmax(logits)[label] ≤ 0, in nats.     logits [V], 0 ≤ label < V
//
// logits finite or −∞; NaN or +∞ anywhere gives NaN. No allocation, no errors. Cost: one
// exponential and two reads an element.
template <Real T>
double log_likelihood(std::span<const T> logits, token_id label) noexcept {
    LogSumExp<T> total;
    total.add(logits);
    return static_cast<double>(logits[static_cast<std::size_t>(label)]) - total.value();
}

// A sum of losses and how many they are: what a mean, a perplexity or bits per byte are made of.
struct LossSum {
    double sum = 0.0;
    Index count = 0;
    // Mean in nats; 0 where nothing was counted.
    double mean() const noexcept { return count > 0 ? sum / static_cast<double>(count) : 0.0; }
};

// Labels that have a loss.
inline Index count_labels(std::span<const token_id> labels) noexcept {
    Index count = 0;
    for (const token_id label : labels) count += label != ignore_index;
    return count;
}

namespace detail {

// In the order of the rows, so that threads do not matter.
inline LossSum sum_losses(std::span<const token_id> labels,
                          std::span<const double> losses) noexcept {
    LossSum total{0.0, count_labels(labels)};
    for (const double loss : losses) total.sum += loss;
    return total;
}

}  // namespace detail

// losses[n] = −ln softmax(logits[n])[labels[n]] in nats, or 0 where labels[n] is ignore_index.
// Returns their sum.
//
// logits [N,V], any strides; labels, losses [N]; labels in [0, V) or ignore_index. Writes losses.
// No allocation, no errors. Cost: one exponential and two reads an element.
template <Real T, Index Cols>
LossSum cross_entropy(MatrixView<const T, Cols> logits, std::span<const token_id> labels,
                      std::span<double> losses) noexcept {
    const auto width = static_cast<std::size_t>(logits.cols());
    for_rows(logits.rows(), 8 * logits.cols(), [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const auto i = static_cast<std::size_t>(n);
            losses[i] =
                labels[i] == ignore_index
                    ? 0.0
                    : -log_likelihood<T>(std::span<const T>(logits.row(n), width), labels[i]);
        }
    });
    return detail::sum_losses(labels, losses);
}
template <Real T, Index Cols>
LossSum cross_entropy(MatrixView<T, Cols> logits, std::span<const token_id> labels,
                      std::span<double> losses) noexcept {
    return cross_entropy(MatrixView<const T, Cols>(logits), labels, losses);
}

}  // namespace HYDRALM_NAMESPACE::kernels
