// The specification of cross-entropy at a label: plain loops, any real scalar.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels::reference {

// ln softmax(logits)[label].
template <class T>
T log_likelihood(std::span<const T> logits, token_id label) {
    const T m = *std::max_element(logits.begin(), logits.end());
    T sum = 0;
    for (const T z : logits) sum += std::exp(z - m);
    return logits[static_cast<std::size_t>(label)] - m - std::log(sum);
}

// losses[n] = −ln softmax(logits[n])[labels[n]], or 0 where labels[n] = −100.     logits [N,V],
// labels, losses [N]
template <class T>
void cross_entropy(MatrixView<const T> logits, std::span<const token_id> labels,
                   std::span<double> losses) {
    for (Index n = 0; n < logits.rows(); ++n) {
        const auto i = static_cast<std::size_t>(n);
        const std::span<const T> row(logits.row(n), static_cast<std::size_t>(logits.cols()));
        losses[i] =
            labels[i] == -100 ? 0.0 : -static_cast<double>(log_likelihood<T>(row, labels[i]));
    }
}

// dlogits[n,i] = scale (softmax(logits[n])[i] − [i = labels[n]]), or 0 where labels[n] = −100.
template <class T>
void cross_entropy_backward(MatrixView<const std::type_identity_t<T>> logits,
                            std::span<const token_id> labels, double scale, MatrixView<T> dlogits) {
    for (Index n = 0; n < dlogits.rows(); ++n) {
        const token_id label = labels[static_cast<std::size_t>(n)];
        const std::span<const T> row(logits.row(n), static_cast<std::size_t>(logits.cols()));
        for (Index i = 0; i < dlogits.cols(); ++i) {
            const T p =
                label == -100 ? T(0) : std::exp(log_likelihood<T>(row, static_cast<token_id>(i)));
            dlogits(n, i) = T(scale) * (p - (i == label ? T(1) : T(0)));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::reference
