// The register tile of the product, and the block of rows × panels that is built from it.
//
// A tile holds Rows × Panels × 2 vectors of sums in registers and walks the contraction index in
// order: per step it loads the panels' vectors, broadcasts one value of each row, and does one
// multiply-add per sum. Every output element is one chain of simd::fma over the contraction index,
// whatever tile it falls in: its bits depend on nothing else. Sums of a block wait in L1/L2 between
// slices of the contraction, which keeps the order and fits both operands in cache. Weights in
// another format have tiles of their own (bf16_tile.hpp), with that same property.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/weights/packed_matrix.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// Below this many operations a product stays on the calling thread: a few microseconds.
inline constexpr Index worthwhile_flop = 200'000;

// The part of a product that one task computes: up to `rows` rows of some panels. x and the sums
// stay in L2, a panel's slice and a few rows of x in L1.
template <Real T>
struct Block {
    // 12 × 2 sums + 2 weights + 1 value on 32 registers; 6 × 2 on 16.
    static constexpr int tile_rows = simd::registers >= 32 ? 12 : 6;
    static constexpr Index rows = 36;                 // so many share one read of the weights
    static constexpr Index few_rows = 12;             // that take a third of the stack
    static constexpr Index depth = 1024 / sizeof(T);  // contraction indices of one slice
    static constexpr Index panel_rows = weights::PackedMatrix<T>::panel_rows;
    static constexpr Index panels = 1536 / (panel_rows * static_cast<Index>(sizeof(T)));
    // Off the powers of two: rows fall in different cache sets.
    static constexpr Index x_stride = depth + 64 / sizeof(T);
    static constexpr Index sums_stride = panels * panel_rows + 64 / sizeof(T);
    static_assert(rows % tile_rows == 0 && few_rows % tile_rows == 0 && panels % 4 == 0);

    T* x;     // [rows, x_stride], a slice of the left operand
    T* sums;  // [rows, sums_stride], [panels, panel_rows] of each
};

template <Real T, Index Rows, class F>
[[gnu::noinline]] void with_block_of(const F& f) noexcept {
    using B = Block<T>;
    alignas(alignment) LocalArray<T, Rows * B::x_stride> x;
    alignas(alignment) LocalArray<T, Rows * B::sums_stride> sums;
    f(B{x, sums});
}

// f(block), its memory on the stack: 32 KiB for few rows, else 95 KiB.
template <Real T, class F>
void with_block(Index rows, const F& f) noexcept {
    if (rows <= Block<T>::few_rows) with_block_of<T, Block<T>::few_rows>(f);
    else with_block_of<T, Block<T>::rows>(f);
}

// The left operand of a tile: value (row, k) lies at data[row·row_stride + k·step].
template <Real T>
struct RowMajor {
    static constexpr Index row_stride = Block<T>::x_stride, step = 1;
    const T* data;
};
template <Real T>
struct ColumnMajor {
    static constexpr Index row_stride = 1;
    const T* data;
    Index step;
};

template <Real T, int... W>
[[gnu::always_inline]] inline void multiply_add(simd::Batch<T>* sums, T value,
                                                const simd::Batch<T>* weights,
                                                std::integer_sequence<int, W...>) noexcept {
    const simd::Batch<T> v = simd::broadcast(value);
    ((sums[W] = simd::fma<T>(v, weights[W], sums[W])), ...);
}

// What a tile asks for in each step so that it lies in L2 when its turn comes: the address moves on
// by step bytes. One request a step costs nothing where a burst of them would stall. Nothing is
// read; the addresses need not be valid.
struct Ahead {
    const void* address;
    Index step;
};

// sums[p][r][:] (+)= Σ_k x(r, k) · panels[p](first + k, :) for k in [0, count), in order; from zero
// when fresh. sums: as Block::sums, from the first of these panels on.
template <int Rows, int Panels, class X, class Panel>
[[gnu::noinline]] void tile(X x, const Panel* panels, Index first, Index count,
                            typename Panel::Scalar* sums, bool fresh, Ahead ahead) noexcept {
    using T = typename Panel::Scalar;
    using B = Block<T>;
    constexpr int width = 2 * Panels;
    [&]<int... R, int... W>(std::integer_sequence<int, R...>,
                            std::integer_sequence<int, W...> all) {
        std::array<simd::Batch<T>, static_cast<std::size_t>(Rows * width)> s;
        const auto address = [sums](int r, int w) {
            return sums + r * B::sums_stride + w * simd::lanes<T>;
        };
        const auto each_row = [&](auto&& f) { (f(std::integral_constant<int, R>{}), ...); };
        if (fresh) s.fill(simd::broadcast(T(0)));
        else each_row([&](auto r) { ((s[r * width + W] = simd::load<T>(address(r, W))), ...); });
        const char* wanted = static_cast<const char*>(ahead.address);
        std::array<Panel, static_cast<std::size_t>(Panels)> local;
        std::copy_n(panels, Panels, local.begin());
        // Copies: what the lambda captures by reference would be read again in every step.
        const X values = x;
        const Index begin = first, steps = count, advance = ahead.step;
        constexpr std::integral_constant<Index, 64> line;
        const auto step = [&](Index k, auto bytes) __attribute__((always_inline)) {
            if constexpr (Panels == 1) {
                for (Index i = 0; i < bytes; i += line) __builtin_prefetch(wanted + i, 0, 2);
                wanted += advance;
            }
            const std::array<simd::Batch<T>, static_cast<std::size_t>(width)> weights{
                local[W / 2].load(begin + k, W % 2)...};
            (multiply_add<T>(s.data() + R * width, values.data[R * X::row_stride + k * values.step],
                             weights.data(), all),
             ...);
        };
        Index k = 0;
        // Where tiles share the panel, arithmetic is the limit: two steps at a time are a little
        // faster. Where memory is, they are slower.
        if constexpr (Rows == B::tile_rows)
            for (; advance <= line && k + 2 <= steps; k += 2) {
                step(k, line);
                step(k + 1, line);
            }
        for (; k < steps; ++k)
            step(k, std::integral_constant<Index, round_up(Panel::column_bytes, line)>{});
        each_row([&](auto r) { (simd::store<T>(address(r, W), s[r * width + W]), ...); });
    }(std::make_integer_sequence<int, Rows>{}, std::make_integer_sequence<int, width>{});
}

// What differs by the format of the weights: how x is copied, which tiles there are, what they do.
// This is the one of weights that are kept in the scalar.
template <class Panel>
struct Tiles {
    using T = typename Panel::Scalar;
    static constexpr int most_rows = Block<T>::tile_rows;
    // Panels a tile takes at once: few rows take several. They wait for the weights, and a core
    // reads memory faster from several streams than from one.
    template <int Rows>
    static constexpr int panels = Rows <= 2   ? 4
                                  : Rows <= 4 ? 2
                                              : 1;

    // A row of a slice of x, count ≤ Block::depth, to Block::x.
    static void copy_row(const T* x, Index count, T* to) noexcept { std::copy_n(x, count, to); }

    template <int Rows>
    static void run(const T* x, const Panel* p, Index first, Index count, T* sums, bool fresh,
                    Ahead ahead) noexcept {
        tile<Rows, panels<Rows>>(RowMajor<T>{x}, p, first, count, sums, fresh, ahead);
    }
};

// f<Rows>() for the tiles there may be, the tallest first.
template <class F>
void for_tile_rows(const F& f) noexcept {
    [&]<int... Rows>(std::integer_sequence<int, Rows...>) {
        (f.template operator()<Rows>(), ...);
    }(std::integer_sequence<int, 12, 8, 6, 4, 3, 2, 1>{});
}

// One slice of the contraction: x copied to block.x, sums accumulated for all panels.
template <class Panel>
struct Slice {
    using T = typename Panel::Scalar;
    using B = Block<T>;

    MatrixView<const T> x;  // whole rows
    const Panel* panels;    // may be read up to the next multiple of four
    Index panel_count, first, count;
    B block;

    // As many tiles of Rows rows as fit into [row, x.rows()), for all panels; moves row behind
    // them.
    template <int Rows>
    void tiles(Index& row) const noexcept {
        if constexpr (Rows <= Tiles<Panel>::most_rows) {
            constexpr Index step = Tiles<Panel>::template panels<Rows>;
            const Index start = row, fit = (x.rows() - row) / Rows;
            row += fit * Rows;
            for (Index p = 0; fit > 0 && p < panel_count; p += step)
                for (Index t = 0; t < fit; ++t) {
                    const Index r = start + t * Rows;
                    fetch_rows(r, Rows, p / step, ceil_div(panel_count, step));
                    Tiles<Panel>::template run<Rows>(
                        block.x + r * B::x_stride, panels + p, first, count,
                        block.sums + r * B::sums_stride + p * B::panel_rows, first == 0,
                        next_panel(p + step, t, fit));
                }
        }
    }

private:
    // The t-th of fit parts of panel p, or of the first panel's next slice.
    Ahead next_panel(Index p, Index t, Index fit) const noexcept {
        const Panel& panel = p < panel_count ? panels[p] : panels[0];
        const Index column = p < panel_count ? first : first + count;
        return {panel.address(column + t * count / fit), ceil_div(Panel::column_bytes, fit)};
    }

    // Asks for the share-th of so many parts of the next slice of rows [r, r + rows).
    void fetch_rows(Index r, Index rows, Index share, Index shares) const noexcept {
        const Index next = first + count, size = std::min(B::depth, x.cols() - next);
        constexpr Index line = 64 / sizeof(T);
        for (Index i = r; i < r + rows; ++i)
            for (Index c = share * size / shares / line * line; c < (share + 1) * size / shares;
                 c += line)
                __builtin_prefetch(x.row(i) + next + c, 0, 2);
    }
};

// block.sums[r][p][:] = Σ_k x(r, k) · panels[p](k, :). x: [≤ Block::rows, any]; panels: an array
// of Block::panels of which panel_count hold, followed by copies of the last up to a multiple of
// four.
template <class Panel>
void accumulate(MatrixView<const typename Panel::Scalar> x, const Panel* panels, Index panel_count,
                const Block<typename Panel::Scalar>& block) noexcept {
    using T = typename Panel::Scalar;
    using B = Block<T>;
    Index first = 0;
    do {
        const Index count = std::min(B::depth, x.cols() - first);
        for (Index r = 0; r < x.rows(); ++r)
            Tiles<Panel>::copy_row(x.row(r) + first, count, block.x + r * B::x_stride);
        const Slice<Panel> slice{x, panels, panel_count, first, count, block};
        Index row = 0;
        for_tile_rows([&]<int Rows>() { slice.template tiles<Rows>(row); });
        first += count;
    } while (first < x.cols());
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
