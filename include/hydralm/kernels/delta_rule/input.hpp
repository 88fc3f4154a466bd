// What every form of the gated delta rule reads: the tokens of one head.
#pragma once

#include <algorithm>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/strided_span.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// One head, N tokens. Views may be slices of wider buffers (q, k, v of [N, 3I]; log_decay, beta of
// [N, 2H]).
//   q, k        [N, D]; D a multiple of 4, or dynamic: a number of the views
//   v           [N, V]; V as D, and usually the same
//   log_decay   [N], g = ln α ≤ 0; −∞ forgets everything
//   beta        [N], the writing strength, usually in (0, 1], up to 2 allowed
template <Real T, Index D, Index V = D>
struct GatedDeltaInput {
    static_assert(
        D == dynamic || (D > 0 && D % 4 == 0),
        "hydralm: head_dim: must be a multiple of 4; choose d_model / n_heads accordingly");

    MatrixView<const T, D> q;
    MatrixView<const T, D> k;
    MatrixView<const T, V> v;
    StridedSpan<const T> log_decay;
    StridedSpan<const T> beta;

    constexpr Index tokens() const noexcept { return q.rows(); }
    // Tokens [first, first + count).
    constexpr GatedDeltaInput middle(Index first, Index count) const noexcept {
        return {q.middle_rows(first, count), k.middle_rows(first, count),
                v.middle_rows(first, count), log_decay.subspan(first, count),
                beta.subspan(first, count)};
    }
};

namespace detail {
// Whether e^g is 0 in every precision: before this token's update the memory is 0.
inline bool forgets(double g) noexcept { return g < -746.0; }
}  // namespace detail

}  // namespace HYDRALM_NAMESPACE::kernels
