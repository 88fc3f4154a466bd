// Cosines and sines of the rotary angles of a run of positions, in double until they are stored.
//
// Absolute error below 1e-13 against cos(position · frequency) in double. The value at a position
// is a function of the position alone: anchor · Π w^(2^i) over the bits of its distance from the
// anchor, the multiple of 256 below it.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels {

inline constexpr Index rotary_most = 512;  // elements of a head that turn, read at run time

// Row n of table [N, D] = cos θ_0 … cos θ_{D/2−1}, sin θ_0 … sin θ_{D/2−1} with θ_j =
// (first_position + n) · base^(−2j/D).
//   first_position ≥ 0 and below 2^53; base > 0
//   table          [N, D], written; D even, at most rotary_most where it is dynamic
//   head           of a head that lies in one of D, the halves of it at the front of the halves of
//                  the other: θ_j = … base^(−2j/head), and all is times (D/head)^¼, so that scores
//                  over √D of queries and keys turned so are those of the head over √head; 0: D
// No allocation. Cost: D/2 powers and sines for the call and sines for every 256 positions; one
// complex product per entry. Source: SPEC.md §4; arXiv 2104.09864.
template <Index D, class T, Index Cols>
    requires Real<T>
void rotary_table(std::int64_t first_position, std::type_identity_t<double> base,
                  MatrixView<T, Cols> table, Index head = 0) noexcept {
    static_assert(
        D == dynamic || (D >= 4 && D % 4 == 0),
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    constexpr int levels = 8;
    constexpr std::int64_t run = std::int64_t{1} << levels;
    constexpr Index most = D == dynamic ? rotary_most : D;
    const auto width = D == dynamic ? table.cols() : D;
    const auto half = static_cast<std::size_t>(width / 2);
    struct Turn {  // of every pair
        std::array<double, static_cast<std::size_t>(most / 2)> c, s;
    };
    const auto multiply = [&](const Turn& a, const Turn& b, Turn& out) {
        for (std::size_t j = 0; j < half; ++j) {
            const double c = a.c[j] * b.c[j] - a.s[j] * b.s[j],
                         s = a.c[j] * b.s[j] + a.s[j] * b.c[j];
            out.c[j] = c;
            out.s[j] = s;
        }
    };
    if (table.rows() == 0) return;
    const Index turned = head > 0 ? head : width;
    const double scale =
        turned == width ? 1.0
                        : std::pow(static_cast<double>(width) / static_cast<double>(turned), 0.25);
    std::array<double, static_cast<std::size_t>(most / 2)> frequency;
    std::array<Turn, levels> power;  // power[i]: the turn of 2^i positions
    for (std::size_t j = 0; j < half; ++j) {
        frequency[j] = std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(turned));
        power[0].c[j] = std::cos(frequency[j]);
        power[0].s[j] = std::sin(frequency[j]);
    }
    for (std::size_t i = 1; i < levels; ++i) multiply(power[i - 1], power[i - 1], power[i]);

    std::array<Turn, levels + 1>
        prefix;  // prefix[i]: the turn of the position with its low i bits cleared
    for (Index n = 0; n < table.rows(); ++n) {
        const std::int64_t position = first_position + n;
        int stale = levels;  // prefixes below this one changed since the position before
        if (n == 0 || position % run == 0) {
            for (std::size_t j = 0; j < half; ++j) {
                const double angle = static_cast<double>(position / run * run) * frequency[j];
                prefix[levels].c[j] = std::cos(angle);
                prefix[levels].s[j] = std::sin(angle);
            }
        } else {
            for (stale = 1; (position >> (stale - 1) & 1) == 0;) ++stale;
        }
        for (int i = stale - 1; i >= 0; --i) {
            const auto at = static_cast<std::size_t>(i);
            if ((position >> i & 1) != 0) multiply(prefix[at + 1], power[at], prefix[at]);
            else prefix[at] = prefix[at + 1];
        }
        T* const row = table.row(n);
        for (std::size_t j = 0; j < half; ++j) {
            row[j] = static_cast<T>(scale * prefix[0].c[j]);
            row[half + j] = static_cast<T>(scale * prefix[0].s[j]);
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
