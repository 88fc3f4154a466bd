// PackedMatrix: weights W [rows, cols] in the order the product reads them.
//
// Panels of panel_rows output rows; inside a panel, input column by input column: element (r, c)
// lies at
//   (r / P)·P·cols + c·P + r % P,   P = panel_rows = two vectors,
// the last panel padded with zeros. So the product streams each panel once, front to back, with
// aligned vector loads. P depends on the instruction set: a packed matrix lives in memory only,
// files hold row-major weights.
#pragma once

#include <algorithm>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/weights/format.hpp"

namespace HYDRALM_NAMESPACE::weights {

// A non-owning view of packed weights. Copying it copies no element; the storage outlives it.
template <Real T>
class PackedMatrix {
public:
    using Scalar = T;
    using Element = T;  // of the storage
    static constexpr Format format = Format::scalar;
    static constexpr Index panel_rows = 2 * simd::lanes<T>;

    // One panel as the product sees it: two vectors for each input column. A packed form with other
    // storage (bf16, …) brings its own Panel, and the kernels are templates over it.
    struct Panel {
        using Scalar = T;
        const T* data;
        // Rows [half·lanes, (half + 1)·lanes) of the panel at input column c. half ∈ {0, 1}.
        simd::Batch<T> load(Index c, Index half) const noexcept {
            return simd::load(data + c * panel_rows + half * simd::lanes<T>);
        }
        // Where column c begins, and how far it is to the next: for prefetching.
        const void* address(Index c) const noexcept { return data + c * panel_rows; }
        static constexpr Index column_bytes = panel_rows * Index{sizeof(T)};
    };

    PackedMatrix() = default;
    // data: storage_size(rows, cols) elements that pack or pack_transposed has filled, 64-byte
    // aligned.
    PackedMatrix(const T* data, Index rows, Index cols) noexcept
        : data_(data), rows_(rows), cols_(cols) {}

    // Elements of the storage, padding included. rows, cols ≥ 0. panel: rows of one, of a target
    // whose vectors are of another width.
    static constexpr Index storage_size(Index rows, Index cols, Index panel = panel_rows) noexcept {
        return round_up(rows, panel) * cols;
    }

    // Packs w [rows, cols]. storage: storage_size(w.rows(), w.cols()) elements, all written; apart
    // from w. Allocates nothing.
    static PackedMatrix pack(MatrixView<const T> w, T* storage) noexcept {
        pack_panels<panel_rows>(w, storage);
        return {storage, w.rows(), w.cols()};
    }
    // The same in panels of so many rows. out: storage_size(w.rows(), w.cols(), panel) elements.
    template <Index panel>
    static void pack_panels(MatrixView<const T> w, T* out) noexcept {
        constexpr Index strip =
            16;  // columns at a time: the panel's rows are read in whole cache lines
        for (Index first = 0; first < w.rows(); first += panel) {
            const Index rows = std::min(panel, w.rows() - first);
            for (Index c0 = 0; c0 < w.cols(); c0 += strip) {
                const Index cols = std::min(strip, w.cols() - c0);
                for (Index r = 0; r < rows; ++r)
                    for (Index c = 0; c < cols; ++c) out[c * panel + r] = w(first + r, c0 + c);
                for (Index c = 0; rows < panel && c < cols; ++c)
                    std::fill(out + c * panel + rows, out + (c + 1) * panel, T(0));
                out += cols * panel;
            }
        }
    }

    // Packs the transpose: w [rows, cols] gives a packed [cols, rows], whose product is x·W, the
    // input gradient of y = x·Wᵀ. storage: storage_size(w.cols(), w.rows()) elements, all written;
    // apart from w. Allocates nothing.
    static PackedMatrix pack_transposed(MatrixView<const T> w, T* storage) noexcept {
        T* out = storage;
        for (Index first = 0; first < w.cols(); first += panel_rows) {
            const Index cols = std::min(panel_rows, w.cols() - first);
            for (Index r = 0; r < w.rows(); ++r, out += panel_rows) {
                std::copy_n(w.row(r) + first, cols, out);
                std::fill(out + cols, out + panel_rows, T(0));
            }
        }
        return {storage, w.cols(), w.rows()};
    }

    // Writes W, row-major, bit for bit. out: [rows, cols].
    void unpack(MatrixView<T> out) const noexcept {
        for (Index r = 0; r < rows_; ++r) copy_row(r, out.row(r));
    }

    // Row r of W (an embedding) to out[0 … cols).
    void copy_row(Index r, T* out) const noexcept {
        const T* p = data_ + offset(r, 0);
        for (Index c = 0; c < cols_; ++c) out[c] = p[c * panel_rows];
    }

    T at(Index r, Index c) const noexcept { return data_[offset(r, c)]; }

    const T* data() const noexcept { return data_; }
    Index rows() const noexcept { return rows_; }
    Index cols() const noexcept { return cols_; }
    Index panels() const noexcept { return ceil_div(rows_, panel_rows); }
    Panel panel(Index i) const noexcept { return {data_ + i * panel_rows * cols_}; }

private:
    Index offset(Index r, Index c) const noexcept {
        return (r / panel_rows * cols_ + c) * panel_rows + r % panel_rows;
    }

    const T* data_ = nullptr;
    Index rows_ = 0;
    Index cols_ = 0;
};

}  // namespace HYDRALM_NAMESPACE::weights
