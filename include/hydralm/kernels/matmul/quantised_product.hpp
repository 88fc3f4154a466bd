// The product with weights of 8 or 4 bits: activations in 8 bits, integer sums per block.
//
// Fast form of reference::matmul_quantised, with its bits: whatever the leaf (simd/byte_dot/), the
// number of rows and the number of threads. Rows are quantised once, as many as fit the stack; then
// every task takes four panels. Where several tiles of rows share them, the inputs pass in slices
// that stay in L1, weights of 4 bits widened to 8 once a slice.
#pragma once

#include <algorithm>
#include <array>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/epilogue.hpp"
#include "hydralm/kernels/matmul/quantised_rows.hpp"
#include "hydralm/kernels/matmul/tile.hpp"
#include "hydralm/simd/byte_dot/leaves.hpp"
#include "hydralm/weights/quantised_matrix.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// The sums of rows with four panels of one matrix.
class QuantisedGroup {
public:
    static constexpr Index panels = 4, outputs = panels * 16;
    static_assert(outputs == simd::sums_stride);

    // w: its panels from first on, the last one again where there are fewer.
    template <class Block>
    void multiply(const simd::ByteDotLeaf& leaf, const QuantisedRows& x,
                  const weights::QuantisedMatrix<Block>& w, Index first) noexcept {
        std::array<const std::uint8_t*, static_cast<std::size_t>(panels)> at;
        for (Index p = 0; p < panels; ++p)
            at[static_cast<std::size_t>(p)] = w.panel(std::min(first + p, w.panels() - 1));
        const auto& forms = w.four_bits ? leaf.nibbles : leaf.bytes;
        if (x.rows() == 1) {
            forms.alone(x.tile(0, 0), at.data(), w.pairs(), fetched_ahead, sums_.data(), true);
            return;
        }
        for (Index p = 0; p < panels && first + p < w.panels(); p += 2) {
            if (x.tiles() == 1) {
                const auto tile = forms.tiles[static_cast<std::size_t>(x.rows() - 1)];
                tile(x.tile(0, 0), at.data() + p, w.pairs(), fetched_ahead, sums_.data() + p * 16,
                     true);
            } else {
                in_slices(leaf, x, at.data() + p, w.pairs(), w.four_bits, sums_.data() + p * 16);
            }
        }
    }
    // Of a row, panel after panel.
    const float* sums(Index row) const noexcept { return sums_.data() + row * simd::sums_stride; }

private:
    static constexpr Index slice_pairs = 8;  // of two panels: 17 KiB
    static constexpr Index fetched_ahead = 2048;

    void in_slices(const simd::ByteDotLeaf& leaf, const QuantisedRows& x,
                   const std::uint8_t* const* two_panels, Index pairs, bool nibbles,
                   float* to) noexcept {
        using simd::byte_pair, simd::nibble_pair;
        alignas(alignment) LocalGrid<std::uint8_t, 2, slice_pairs * byte_pair> wide;
        Index pair = 0;
        do {
            const Index count = std::min(slice_pairs, pairs - pair);
            std::array<const std::uint8_t*, 2> at;
            for (std::size_t p = 0; p < 2; ++p) {
                at[p] = nibbles ? wide[p] : two_panels[p] + pair * byte_pair;
                if (nibbles) leaf.widen(two_panels[p] + pair * nibble_pair, wide[p], count);
            }
            for (Index t = 0; t < x.tiles(); ++t)
                leaf.bytes.tiles[static_cast<std::size_t>(x.rows_of(t) - 1)](
                    x.tile(t, 2 * pair), at.data(), count, t == 0 && !nibbles ? fetched_ahead : 0,
                    to + t * QuantisedRows::tile_rows * simd::sums_stride, pair == 0);
            pair += slice_pairs;
        } while (pair < pairs);
    }

    alignas(alignment)
        std::array<float, static_cast<std::size_t>(QuantisedRows::most_rows* outputs)> sums_;
};

// The epilogue of a row of a group: count ≤ 64 outputs from first_column on of y.
template <std::size_t Products, class Epilogue>
[[gnu::always_inline]] inline void finish_quantised(const std::array<const float*, Products>& sums,
                                                    Index first_column, Index count,
                                                    const Epilogue& epilogue, float* y) noexcept {
    constexpr Index lanes = simd::lanes<float>;
    for (Index c = 0; c < count; c += lanes) {
        std::array<simd::Batch<float>, Products> values;
        for (std::size_t i = 0; i < Products; ++i) values[i] = simd::load(sums[i] + c);
        hydralm::detail::finish(first_column + c, std::min(lanes, count - c), values, epilogue, y);
    }
}

// y = epilogue of x·Wᵀ for every W of weights, of one shape, by a leaf. x.cols() ≤
// QuantisedRows::most_cols.
template <class Block, std::size_t Products, class Epilogue>
void multiply_by(const simd::ByteDotLeaf& leaf, MatrixView<const float> x,
                 const std::array<const weights::QuantisedMatrix<Block>*, Products>& weights,
                 MatrixView<float> y, const Epilogue& epilogue) noexcept {
    const auto& w = *weights[0];
    if (w.rows() == 0 || x.rows() == 0) return;
    const Index fitting = QuantisedRows::fitting_rows(w.cols());
    const Index even = ceil_div(x.rows(), ceil_div(x.rows(), fitting));
    const Index part = std::min(fitting, round_up(even, QuantisedRows::tile_rows));
    for (Index row = 0; row < x.rows(); row += part) {
        QuantisedRows rows;
        rows.assign(x.middle_rows(row, std::min(part, x.rows() - row)));
        parallel_for(
            ceil_div(w.panels(), QuantisedGroup::panels),
            [&](Index task) {
                std::array<QuantisedGroup, Products> groups;
                for (std::size_t i = 0; i < Products; ++i)
                    groups[i].multiply(leaf, rows, *weights[i], task * QuantisedGroup::panels);
                const Index column = task * QuantisedGroup::outputs;
                const Index count = std::min(QuantisedGroup::outputs, w.rows() - column);
                for (Index r = 0; r < rows.rows(); ++r) {
                    std::array<const float*, Products> sums;
                    for (std::size_t i = 0; i < Products; ++i) sums[i] = groups[i].sums(r);
                    finish_quantised(sums, column, count, epilogue.template bind<float>(row + r),
                                     y.row(row + r));
                }
            },
            2 * rows.rows() * w.rows() * w.cols() * static_cast<Index>(Products) >=
                worthwhile_flop);
    }
}

template <class Block, std::size_t Products, class Epilogue>
void multiply(MatrixView<const float> x,
              const std::array<const weights::QuantisedMatrix<Block>*, Products>& weights,
              MatrixView<float> y, const Epilogue& epilogue) noexcept {
    multiply_by(simd::byte_dot_leaf(), x, weights, y, epilogue);
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
