// matmul: y = x·Wᵀ with packed weights, and the two products of a SwiGLU in one pass.
//
// Fast forms of reference::matmul and reference::matmul_swiglu, their epilogues expressions. Each
// output element is a single chain of multiply-adds in the order of the input column, so a row has
// the same bits whatever the number of rows and threads. Error: |y − exact| ≤ (in + 1)·ε·Σ|x·w| per
// element.
#pragma once

#include <type_traits>

#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/bf16_tile.hpp"
#include "hydralm/kernels/matmul/epilogue.hpp"
#include "hydralm/kernels/matmul/quantised_product.hpp"
#include "hydralm/kernels/matmul/tile.hpp"
#include "hydralm/weights/any_matrix.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// Rows and output columns cut into tasks of at most most_rows rows and Block::panels panels: every
// task is rows × slots, slots being panels or pairs of panels.
struct Partition {
    Index rows, slots, rows_per_task, slots_per_task, row_tasks;
    bool worthwhile;

    template <Real T>
    static Partition of(Index rows, Index most_rows, Index depth, Index slots,
                        Index panels_per_slot) noexcept {
        using B = Block<T>;
        const Index row_tasks = ceil_div(rows, most_rows);
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

// The epilogue of one row of sums: every vector of its slots, the first at first_column of y
// [columns].
template <Real T, std::size_t Products, class Epilogue>
[[gnu::always_inline]] inline void finish_row(const T* sums, Index slots, Index first_column,
                                              Index columns, const Epilogue& epilogue,
                                              T* y) noexcept {
    constexpr Index lanes = simd::lanes<T>;
    const Index size = slots * Block<T>::panel_rows;  // of each product
    for (Index i = 0; i < std::min(size, columns - first_column); i += lanes) {
        std::array<simd::Batch<T>, Products> finished;
        for (std::size_t j = 0; j < Products; ++j)
            finished[j] = simd::load<T>(sums + static_cast<Index>(j) * size + i);
        const Index column = first_column + i;
        hydralm::detail::finish(column, std::min(lanes, columns - column), finished, epilogue, y);
    }
}

// y = epilogue of x·Wᵀ for every W of weights, of one shape.
template <class Weights, std::size_t Products, class Epilogue>
void multiply(MatrixView<const typename Weights::Scalar> x,
              const std::array<const Weights*, Products>& weights,
              MatrixView<typename Weights::Scalar> y, const Epilogue& epilogue, Arena*) noexcept {
    using T = typename Weights::Scalar;
    using B = Block<T>;
    const Weights& w = *weights[0];
    constexpr auto products = static_cast<Index>(Products);
    Partition::of<T>(x.rows(), B::rows, w.cols(), w.panels(), products)
        .run([&](Index row, Index rows, Index slot, Index slots) {
            std::array<typename Weights::Panel, B::panels> panels;
            for (Index i = 0; i < products; ++i)
                for (Index p = 0; p < slots; ++p)
                    panels[static_cast<std::size_t>(i * slots + p)] =
                        weights[static_cast<std::size_t>(i)]->panel(slot + p);
            pad_panels(panels, products * slots);
            with_block<T>(rows, [&](const B& block) {
                accumulate(x.middle_rows(row, rows), panels.data(), products * slots, block);
                for (Index r = 0; r < rows; ++r)
                    finish_row<T, Products>(block.sums + r * B::sums_stride, slots,
                                            slot * B::panel_rows, w.rows(),
                                            epilogue.template bind<T>(row + r), y.row(row + r));
            });
        });
}

// The same where the format, one for all of them, is known now.
template <class Weights, std::size_t Products, class Epilogue>
    requires weights::carries_format<Weights>
void multiply(MatrixView<const typename Weights::Scalar> x,
              const std::array<const Weights*, Products>& weights,
              MatrixView<typename Weights::Scalar> y, const Epilogue& epilogue,
              Arena* arena) noexcept {
    weights[0]->with_format([&]<class Matrix>(const Matrix&) {
        std::array<const Matrix*, Products> known;
        for (std::size_t i = 0; i < Products; ++i) known[i] = weights[i]->template as<Matrix>();
        multiply(x, known, y, epilogue, arena);
    });
}

// Throws Error where an operand of known size does not fit y or lies over other elements of it.
template <Real T, class Epilogue>
void check_epilogue(MatrixView<T> y, const Epilogue& epilogue) {
    hydralm::detail::check_expression<MatrixOperand<T, dynamic>, Epilogue>();
    if constexpr (Epilogue::views > 0)
        hydralm::detail::check_views(std::tuple{operand(y)}, epilogue);
}

}  // namespace detail

// y = epilogue of the finished sums acc = x·Wᵀ; y = acc without one.
// x: [M, in], any M ≥ 0; w: packed [out, in]; y: [M, out], written (read by the epilogues that read
// it). Strides are free and nothing need be aligned. y does not overlap x. Weights:
// a packed matrix of any format, or one that carries its format (weights/any_matrix.hpp). Operands
// of the epilogue that have a size are checked against y: Error names both; with in(…), nothing can
// throw. Allocates nothing; 35 KiB of stack up to 12 rows, else 100. With weights of 8 and 4 bits
// 50 KiB for few rows (20,480 numbers at most), and for more with an arena of which they use what
// quantised_workspace_bytes says; without one 115, and up to a third slower. Parallel over blocks
// of outputs when large. 2·M·in·out operations, every weight read once per 36 rows, 96 in 8 and 4
// bits.
template <class Weights, Expression Epilogue = Accumulator<0>>
void matmul(MatrixView<const std::type_identity_t<typename Weights::Scalar>> x, const Weights& w,
            MatrixView<std::type_identity_t<typename Weights::Scalar>> y,
            const Epilogue& epilogue = {}, Arena* arena = nullptr) noexcept(Epilogue::views == 0) {
    detail::check_epilogue(y, epilogue);
    detail::multiply(x, std::array{&w}, y, epilogue, arena);
}

// The same with two products of one shape, acc = x·Wᵀ and acc2 = x·Uᵀ, which meet in the block:
// neither is written out. Each sum has the bits of matmul with its weights.
template <class Weights, Expression Epilogue>
void matmul(MatrixView<const std::type_identity_t<typename Weights::Scalar>> x, const Weights& w,
            const Weights& u, MatrixView<std::type_identity_t<typename Weights::Scalar>> y,
            const Epilogue& epilogue, Arena* arena = nullptr) noexcept(Epilogue::views == 0) {
    detail::check_epilogue(y, epilogue);
    detail::multiply(x, std::array{&w, &u}, y, epilogue, arena);
}

// hidden = silu(x·Gᵀ) ⊙ (x·Uᵀ), the inner half of a SwiGLU (Shazeer, "GLU variants improve
// Transformer", eq. 6). x: [M, in]; gate, up: packed [h, in] each; hidden: [M, h], written; it does
// not overlap x. Otherwise as matmul.
template <class Weights>
void matmul_swiglu(MatrixView<const std::type_identity_t<typename Weights::Scalar>> x,
                   const Weights& gate, const Weights& up,
                   MatrixView<std::type_identity_t<typename Weights::Scalar>> hidden,
                   Arena* arena = nullptr) noexcept {
    matmul(x, gate, up, hidden, silu(acc) * acc2, arena);
}

}  // namespace HYDRALM_NAMESPACE::kernels
