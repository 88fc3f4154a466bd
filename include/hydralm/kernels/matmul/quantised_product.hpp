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
        const auto& forms = w.four_bits ? leaf.nibbles : leaf.bytes;
        const auto panel = [&](Index p) { return w.panel(std::min(first + p, w.panels() - 1)); };
        if (x.rows() == 1) {
            const std::array at{panel(0), panel(1), panel(2), panel(3)};
            auto later = at;
            for (auto& p : later) p += 2048;
            // streams of 8 bits are followed by the processor's own prefetchers, better than by us
            forms.alone(x.tile(0, 0), at.data(), w.pairs(),
                        {w.four_bits ? later.data() : nullptr, w.pair_bytes}, sums_.data(), true);
            return;
        }
        for (Index p = 0; p < panels && first + p < w.panels(); p += 2) {
            const Two at{panel(p), panel(p + 1)};
            if (x.tiles() == 1) {
                const Two later = behind(at, 4096);
                forms.tiles[static_cast<std::size_t>(x.rows() - 1)](
                    x.tile(0, 0), at.data(), w.pairs(), {later.data(), w.pair_bytes},
                    sums_.data() + p * 16, true);
            } else {
                in_slices(leaf, x, w, at, sums_.data() + p * 16);
            }
        }
    }
    // Of a row, panel after panel.
    const float* sums(Index row) const noexcept { return sums_.data() + row * simd::sums_stride; }

private:
    using Two = std::array<const std::uint8_t*, 2>;  // panels side by side
    static constexpr Index slice_pairs = 8;          // of two panels: 17 KiB

    static Two behind(const Two& at, Index bytes) noexcept {
        return {at[0] + bytes, at[1] + bytes};
    }

    // Slice by slice of the inputs all rows, tile by tile; many tiles have 4 bits widened to 8
    // before. Each asks for its share of the lines of the next slice, in the last one of the next
    // two panels.
    template <class Block>
    void in_slices(const simd::ByteDotLeaf& leaf, const QuantisedRows& x,
                   const weights::QuantisedMatrix<Block>& w, const Two& at, float* to) noexcept {
        constexpr Index bytes = weights::QuantisedMatrix<Block>::pair_bytes;
        const bool widens = w.four_bits && x.tiles() > 2;
        const auto& tiles = (w.four_bits && !widens ? leaf.nibbles : leaf.bytes).tiles;
        alignas(alignment) LocalGrid<std::uint8_t, 2, slice_pairs * simd::byte_pair> wide;
        Index pair = 0;
        do {
            const Index count = std::min(slice_pairs, w.pairs() - pair);
            Two slice = behind(at, pair * bytes);
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

// y = epilogue of x·Wᵀ for every W of weights, of one shape, by a leaf. Its 340 KiB of stack are
// its own: a product that may meet other formats too does not take them.
template <class Block, std::size_t Products, class Epilogue>
[[gnu::noinline]] void multiply_by(
    const simd::ByteDotLeaf& leaf, MatrixView<const float> x,
    const std::array<const weights::QuantisedMatrix<Block>*, Products>& weights,
    MatrixView<float> y, const Epilogue& epilogue) noexcept {
    const auto& w = *weights[0];
    if (w.rows() == 0 || x.rows() == 0) return;
    const Index fitting = QuantisedRows::fitting_rows(w.cols());
    const Index even = ceil_div(x.rows(), ceil_div(x.rows(), fitting));
    const Index part = std::min(fitting, round_up(even, QuantisedRows::most_tile_rows));
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
