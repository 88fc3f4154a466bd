// What every form of the gated delta rule reads: the tokens of one head.
#pragma once

#include <algorithm>
#include <concepts>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/strided_span.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// g = ln α ≤ 0 of every token, −∞ forgets everything: one for the whole memory [N], or one for
// every key channel, a row of S, [N, D].
template <Real T>
using HeadDecay = StridedSpan<const T>;
template <Real T, Index D>
using ChannelDecay = MatrixView<const T, D>;

// One head, N tokens. Views may be slices of wider buffers (q, k, v of [N, 3I]; log_decay, beta of
// [N, 2H]).
//   q, k        [N, D]; D a multiple of 4, or dynamic: a number of the views
//   v           [N, V]; V as D, and usually the same
//   log_decay   HeadDecay or ChannelDecay
//   beta        [N], the writing strength, usually in (0, 1], up to 2 allowed
template <Real T, Index D, Index V = D, class Decay = HeadDecay<T>>
struct GatedDeltaInput {
    static_assert(
        D == dynamic || (D > 0 && D % 4 == 0),
        "hydralm: head_dim: must be a multiple of 4; choose d_model / n_heads accordingly");

    MatrixView<const T, D> q;
    MatrixView<const T, D> k;
    MatrixView<const T, V> v;
    Decay log_decay;
    StridedSpan<const T> beta;

    static constexpr bool per_channel = std::same_as<Decay, ChannelDecay<T, D>>;

    constexpr Index tokens() const noexcept { return q.rows(); }
    // Tokens [first, first + count).
    constexpr GatedDeltaInput middle(Index first, Index count) const noexcept {
        const auto decay = [&] {
            if constexpr (per_channel) return log_decay.middle_rows(first, count);
            else return log_decay.subspan(first, count);
        };
        return {q.middle_rows(first, count), k.middle_rows(first, count),
                v.middle_rows(first, count), decay(), beta.subspan(first, count)};
    }
    // g of key channel i in token t.
    constexpr T decay(Index t, Index i) const noexcept {
        if constexpr (per_channel) return log_decay(t, i);
        else return log_decay[t];
    }
};

namespace detail {
// Whether e^g is 0 in every precision: before this token's update the memory is 0.
inline bool forgets(double g) noexcept { return g < -746.0; }
}  // namespace detail

}  // namespace HYDRALM_NAMESPACE::kernels
