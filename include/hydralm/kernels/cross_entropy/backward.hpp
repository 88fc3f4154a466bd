// Cross-entropy and its gradient together, a row of logits at a time, while it is in cache.
//
// Losses equal those of the forward form. The gradient matches reference::cross_entropy_backward
// within 24 units in the last place of scale.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include "hydralm/kernels/cross_entropy/forward.hpp"
#include "hydralm/kernels/softmax/forward.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// dlogits[n,i] = scale (softmax(logits[n])[i] − [i = labels[n]]) and losses as cross_entropy; 0
// where labels[n] is ignore_index. For the gradient of the mean, scale = 1 / count_labels(labels).
//
// logits, dlogits [N,V], any strides; labels, losses [N]; labels in [0, V) or ignore_index. Writes
// dlogits, which may be logits, and losses; returns their sum, unscaled. No allocation, no errors.
// Cost: one exponential an element.
template <Real T, Index Cols>
LossSum cross_entropy_backward(MatrixView<const std::type_identity_t<T>> logits,
                               std::span<const token_id> labels, double scale,
                               MatrixView<T, Cols> dlogits, std::span<double> losses) noexcept {
    const Index width = dlogits.cols();
    for_rows(dlogits.rows(), 8 * width, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const auto i = static_cast<std::size_t>(n);
            const token_id label = labels[i];
            losses[i] = 0.0;
            if (label == ignore_index) {
                std::fill_n(dlogits.row(n), width, T(0));
                continue;
            }
            const auto at_label = static_cast<double>(logits(n, label));
            losses[i] =
                detail::scaled_softmax_row<T>(width, logits.row(n), scale, dlogits.row(n)).value() -
                at_label;
            dlogits(n, label) -= static_cast<T>(scale);
        }
    });
    return detail::sum_losses(labels, losses);
}

}  // namespace HYDRALM_NAMESPACE::kernels
