// matmul: y = x·Wᵀ with packed weights, and the two products of a SwiGLU in one pass.
//
// Fast forms of reference::matmul and reference::matmul_swiglu. Each output element is a single
// chain of multiply-adds in the order of the input column, so a row has the same bits whatever the
// number of rows and threads. Error: |y − exact| ≤ (in + 1)·ε·Σ|x·w| per element.
#pragma once

#include <type_traits>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/epilogue.hpp"
#include "hydralm/kernels/matmul/tile.hpp"
#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// Below this many operations a product stays on the calling thread: a few microseconds.
inline constexpr Index worthwhile_flop = 200'000;

// Rows and output columns cut into tasks: every task is one Block of rows × slots, slots being
// panels or pairs of panels.
struct Partition {
    Index rows, slots, rows_per_task, slots_per_task, row_tasks;
    bool worthwhile;

    template <Real T>
    static Partition of(Index rows, Index depth, Index slots, Index panels_per_slot) noexcept {
        using B = Block<T>;
        const Index row_tasks = ceil_div(rows, B::rows);
        Partition p{rows,
                    slots,
                    round_up(ceil_div(rows, std::max<Index>(row_tasks, 1)), B::tile_rows),
                    B::panels / panels_per_slot,
                    row_tasks,
                    2 * rows * depth * slots * panels_per_slot * B::panel_rows >= worthwhile_flop};
        if (p.worthwhile)  // smaller tasks where there are few, so that the threads finish together
            while (p.slots_per_task > 4 / panels_per_slot && p.count() < 4 * num_threads())
                p.slots_per_task /= 2;
        return p;
    }
    Index count() const noexcept { return row_tasks * ceil_div(slots, slots_per_task); }

    // f(first row, rows, first slot, slots) for every task. Row blocks of the same slots follow
    // each other: they share the weights in cache.
    template <class F>
    void run(const F& f) const noexcept {
        parallel_for(
            count(),
            [&](Index task) {
                const Index row = task % row_tasks * rows_per_task,
                            slot = task / row_tasks * slots_per_task;
                f(row, std::min(rows_per_task, rows - row), slot,
                  std::min(slots_per_task, slots - slot));
            },
            worthwhile);
    }
};

// Fills panels[used … next multiple of four) with copies of the last.
template <class Panels>
void pad_panels(Panels& panels, Index used) noexcept {
    for (Index p = used; p % 4 != 0; ++p)
        panels[static_cast<std::size_t>(p)] = panels[static_cast<std::size_t>(used - 1)];
}

// f(r, column, count, sum offset) for every vector of outputs in a block, columns from first_column
// up to columns.
template <Real T, class F>
void for_each_vector(Index rows, Index slots, Index first_column, Index columns,
                     const F& f) noexcept {
    using B = Block<T>;
    constexpr Index lanes = simd::lanes<T>;
    for (Index r = 0; r < rows; ++r)
        for (Index p = 0; p < slots; ++p)
            for (Index half = 0; half < 2; ++half) {
                const Index column = first_column + p * B::panel_rows + half * lanes;
                if (column >= columns) break;
                f(r, column, std::min(lanes, columns - column),
                  p * B::panel_stride + r * B::panel_rows + half * lanes);
            }
}

}  // namespace detail

// y = epilogue(x·Wᵀ).
// x: [M, in], any M ≥ 0; w: packed [out, in]; y: [M, out], written (read by the epilogues that say
// so). Strides are free and nothing need be aligned. y does not overlap x. Weights:
// PackedMatrix<float> or <double>, or a type like it. Allocates nothing (230 KiB of stack);
// parallel over blocks of outputs when large. 2·M·in·out operations, every weight read once per 72
// rows.
template <class Weights, class Epilogue>
void matmul(MatrixView<const std::type_identity_t<typename Weights::Scalar>> x, const Weights& w,
            MatrixView<std::type_identity_t<typename Weights::Scalar>> y,
            const Epilogue& epilogue) noexcept {
    using T = typename Weights::Scalar;
    using B = detail::Block<T>;
    detail::Partition::of<T>(x.rows(), w.cols(), w.panels(), 1)
        .run([&](Index row, Index rows, Index slot, Index slots) {
            B block;
            std::array<typename Weights::Panel, B::panels> panels;
            for (Index p = 0; p < slots; ++p)
                panels[static_cast<std::size_t>(p)] = w.panel(slot + p);
            detail::pad_panels(panels, slots);
            detail::accumulate(x.middle_rows(row, rows), panels.data(), slots, block);
            detail::for_each_vector<T>(
                rows, slots, slot * B::panel_rows, w.rows(),
                [&](Index r, Index column, Index count, Index at) {
                    T* out = y.row(row + r) + column;
                    detail::store_some<T>(
                        out, epilogue(simd::load<T>(block.sums.data() + at), out, column, count),
                        count);
                });
        });
}
template <class Weights>
void matmul(MatrixView<const std::type_identity_t<typename Weights::Scalar>> x, const Weights& w,
            MatrixView<std::type_identity_t<typename Weights::Scalar>> y) noexcept {
    matmul(x, w, y, Assign{});
}

// hidden = silu(x·Gᵀ) ⊙ (x·Uᵀ), the inner half of a SwiGLU (Shazeer, "GLU variants improve
// Transformer", eq. 6). x: [M, in]; gate, up: packed [h, in] each; hidden: [M, h], written; it does
// not overlap x. The two products and the gate meet in the block: neither product is written out.
// Otherwise as matmul. Sums: the bits of matmul with either half.
template <class Weights>
void matmul_swiglu(MatrixView<const std::type_identity_t<typename Weights::Scalar>> x,
                   const Weights& gate, const Weights& up,
                   MatrixView<std::type_identity_t<typename Weights::Scalar>> hidden) noexcept {
    using T = typename Weights::Scalar;
    using B = detail::Block<T>;
    detail::Partition::of<T>(x.rows(), gate.cols(), gate.panels(), 2)
        .run([&](Index row, Index rows, Index slot, Index slots) {
            B block;
            std::array<typename Weights::Panel, B::panels> panels;
            for (Index p = 0; p < slots; ++p) {
                panels[static_cast<std::size_t>(p)] = gate.panel(slot + p);
                panels[static_cast<std::size_t>(slots + p)] = up.panel(slot + p);
            }
            detail::pad_panels(panels, 2 * slots);
            detail::accumulate(x.middle_rows(row, rows), panels.data(), 2 * slots, block);
            detail::for_each_vector<T>(
                rows, slots, slot * B::panel_rows, gate.rows(),
                [&](Index r, Index column, Index count, Index at) {
                    const auto g = simd::load<T>(block.sums.data() + at);
                    const auto u = simd::load<T>(block.sums.data() + slots * B::panel_stride + at);
                    detail::store_some<T>(hidden.row(row + r) + column, simd::silu<T>(g) * u,
                                          count);
                });
        });
}

}  // namespace HYDRALM_NAMESPACE::kernels
