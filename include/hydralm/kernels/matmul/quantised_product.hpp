// The product with weights of 8 or 4 bits: activations in 8 bits, integer sums per block.
//
// Fast form of reference::matmul_quantised, with its bits: whatever the leaf (simd/byte_dot/), the
// number of rows and the number of threads. Rows are quantised once, as many as there is memory
// for; then every task takes four panels. Where several tiles of rows share them, the inputs pass
// in slices that stay in L1, weights of 4 bits widened to 8 once a slice.
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

// The sums of rows with panels of one matrix, or of each of two.
class QuantisedSums {
public:
    // Panels that are multiplied together: a row alone waits for memory, which several streams use
    // better.
    static Index panels_for(const QuantisedRows& x) noexcept { return x.rows() == 1 ? 4 : 2; }

    // With w, the i-th matrix: its panels from first on, the last one again where there are fewer.
    template <class Block>
    void multiply(const simd::ByteDotLeaf& leaf, const QuantisedRows& x,
                  const weights::QuantisedMatrix<Block>& w, Index first, std::size_t i) noexcept {
        const auto& forms = w.four_bits ? leaf.nibbles : leaf.bytes;
        const auto panel = [&](Index p) { return w.panel(std::min(first + p, w.panels() - 1)); };
        float* const to = sums_.data() + at(x, 0, i);
        if (x.rows() == 1) {
            const std::array from{panel(0), panel(1), panel(2), panel(3)};
            auto later = from;
            for (auto& p : later) p += 2048;
            // streams of 8 bits are followed by the processor's own prefetchers, better than by us
            forms.alone(x.tile(0, 0), from.data(), w.pairs(),
                        {w.four_bits ? later.data() : nullptr, w.pair_bytes}, to, true);
            return;
        }
        const Two from{panel(0), panel(1)};
        if (x.tiles() == 1) {
            const Two later = behind(from, 4096);
            forms.tiles[static_cast<std::size_t>(x.rows() - 1)](
                x.tile(0, 0), from.data(), w.pairs(), {later.data(), w.pair_bytes}, to, true);
        } else {
            in_slices(leaf, x, w, from, to);
        }
    }
    // Of a row with the i-th matrix, panel after panel.
    const float* row(const QuantisedRows& x, Index row, std::size_t i) const noexcept {
        return sums_.data() + at(x, row, i);
    }

private:
    using Two = std::array<const std::uint8_t*, 2>;  // panels side by side
    static constexpr Index slice_pairs = 8;          // of two panels: 17 KiB

    static Two behind(const Two& at, Index bytes) noexcept {
        return {at[0] + bytes, at[1] + bytes};
    }

    // Slice by slice of the inputs all rows, tile by tile; many tiles have 4 bits widened to 8
    // before. Each asks for its share of the lines of the next slice, in the last one of the next
    // two panels. Its 17 KiB of stack are not those of a step.
    template <class Block>
    [[gnu::noinline]] static void in_slices(const simd::ByteDotLeaf& leaf, const QuantisedRows& x,
                                            const weights::QuantisedMatrix<Block>& w,
                                            const Two& from, float* to) noexcept {
        constexpr Index bytes = weights::QuantisedMatrix<Block>::pair_bytes;
        const bool widens = w.four_bits && x.tiles() > 2;
        const auto& tiles = (w.four_bits && !widens ? leaf.nibbles : leaf.bytes).tiles;
        alignas(alignment) LocalGrid<std::uint8_t, 2, slice_pairs * simd::byte_pair> wide;
        Index pair = 0;
        do {
            const Index count = std::min(slice_pairs, w.pairs() - pair);
            Two slice = behind(from, pair * bytes);
            const bool last = pair + count == w.pairs();
            const Two next = behind(slice, (count + (last ? w.pairs() : 0)) * bytes);
            for (std::size_t p = 0; widens && p < 2; ++p) {
                leaf.widen(slice[p], wide[p], count);
                slice[p] = wide[p];
            }
            for (Index t = 0; t < x.tiles(); ++t)
                tiles[static_cast<std::size_t>(x.rows_of(t) - 1)](
                    x.tile(t, 2 * pair), slice.data(), count, {next.data(), bytes, t, x.tiles()},
                    to + t * x.tile_rows() * simd::sums_stride, pair == 0);
            pair += slice_pairs;
        } while (pair < w.pairs());
    }

    static Index at(const QuantisedRows& x, Index row, std::size_t i) noexcept {
        return row * simd::sums_stride + static_cast<Index>(i) * panels_for(x) * 16;
    }

    alignas(alignment) std::array<
        float, static_cast<std::size_t>(QuantisedRows::most_rows* simd::sums_stride)> sums_;
};

// The epilogue of a row: count ≤ 64 outputs from first_column on of y.
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

// y = epilogue of x·Wᵀ for every W of weights, of one shape, by a leaf.
template <class Block, std::size_t Products, class Epilogue>
void multiply_by(const simd::ByteDotLeaf& leaf, MatrixView<const float> x,
                 const std::array<const weights::QuantisedMatrix<Block>*, Products>& weights,
                 MatrixView<float> y, const Epilogue& epilogue, Arena* arena = nullptr) noexcept {
    static_assert(Products <= 2);
    constexpr Index panels_per_task = 4;
    const auto& w = *weights[0];
    if (w.rows() == 0 || x.rows() == 0) return;
    const auto multiply_rows = [&](const QuantisedRows& rows, Index row) {
        parallel_for(
            ceil_div(w.panels(), panels_per_task),
            [&](Index task) {
                QuantisedSums sums;
                const Index first = task * panels_per_task, step = QuantisedSums::panels_for(rows);
                const Index end = std::min(first + panels_per_task, w.panels());
                for (Index p = first; p < end; p += step) {
                    for (std::size_t i = 0; i < Products; ++i)
                        sums.multiply(leaf, rows, *weights[i], p, i);
                    const Index column = p * 16, count = std::min(step * 16, w.rows() - column);
                    for (Index r = 0; r < rows.rows(); ++r) {
                        std::array<const float*, Products> of_row;
                        for (std::size_t i = 0; i < Products; ++i) of_row[i] = sums.row(rows, r, i);
                        finish_quantised(of_row, column, count,
                                         epilogue.template bind<float>(row + r), y.row(row + r));
                    }
                }
            },
            2 * rows.rows() * w.rows() * w.cols() * static_cast<Index>(Products) >=
                worthwhile_flop);
    };
    with_quantised_rows(x.rows(), w.cols(), arena, [&](QuantisedRows rows) {
        const Index part = rows.rows_at_once(x.rows(), w.cols());
        for (Index row = 0; row < x.rows(); row += part) {
            rows.assign(x.middle_rows(row, std::min(part, x.rows() - row)));
            multiply_rows(rows, row);
        }
    });
}

template <class Block, std::size_t Products, class Epilogue>
void multiply(MatrixView<const float> x,
              const std::array<const weights::QuantisedMatrix<Block>*, Products>& weights,
              MatrixView<float> y, const Epilogue& epilogue, Arena* arena) noexcept {
    multiply_by(simd::byte_dot_leaf(), x, weights, y, epilogue, arena);
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
