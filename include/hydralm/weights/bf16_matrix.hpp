// Bf16Matrix: weights W [rows, cols] in bfloat16, in the order the product reads them.
//
// Panels of P = panel_rows output rows, as many as PackedMatrix<float> has. A panel goes through
// the inputs in groups of 32, the last one padded with zeros, and through a group in pairs: the
// pair (2j, 2j + 1) of row r is a word of 32 bits,
//   panel: [cols / 32][16 pairs][P rows][2],
// so that a vector of words is a vector of even weights (shifted up) and one of odd weights
// (masked). The last panel is padded with zeros. P depends on the instruction set: a packed matrix
// lives in memory only, files hold row-major weights.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "hydralm/core/bfloat16.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/bf16.hpp"
#include "hydralm/simd/transpose.hpp"
#include "hydralm/weights/format.hpp"

namespace HYDRALM_NAMESPACE::weights {

// A non-owning view. Copying it copies no element; the storage outlives it.
class Bf16Matrix {
public:
    using Scalar = float;  // of what it is multiplied with, and of the sums
    using Element = std::uint16_t;
    static constexpr Format format = Format::bf16;
    static constexpr Index panel_rows = 2 * simd::lanes<float>;
    static constexpr Index group = 32;  // inputs whose products are summed before they are added

    // One panel as the product sees it: two vectors of pairs for every two inputs.
    struct Panel {
        using Scalar = float;
        const Element* data;
        // Rows [half·lanes, (half + 1)·lanes) of the panel at inputs c and c + 1. c even, half ∈
        // {0, 1}.
        simd::Bf16Pairs load(Index c, Index half) const noexcept {
            return simd::load_bf16_pairs(data + c * panel_rows + half * 2 * simd::lanes<float>);
        }
        // Where column c begins, c even, and how many bytes a column is: for prefetching.
        const void* address(Index c) const noexcept { return data + c / 2 * 2 * panel_rows; }
        static constexpr Index column_bytes = panel_rows * Index{sizeof(Element)};
    };

    Bf16Matrix() = default;
    // data: storage_size(rows, cols) elements that pack has filled, 64-byte aligned.
    Bf16Matrix(const Element* data, Index rows, Index cols) noexcept
        : data_(data), rows_(rows), cols_(cols) {}

    // Elements of the storage, padding included. rows, cols ≥ 0. panel: rows of one, of a target
    // whose vectors are of another width.
    static constexpr Index storage_size(Index rows, Index cols, Index panel = panel_rows) noexcept {
        return round_up(rows, panel) * round_up(cols, group);
    }

    // Packs w [rows, cols], each element rounded to the nearest bfloat16, ties to even. storage:
    // storage_size(w.rows(), w.cols()) elements, all written; apart from w. Allocates nothing.
    static Bf16Matrix pack(MatrixView<const float> w, Element* storage) noexcept {
        pack_panels<panel_rows>(w, storage);
        return {storage, w.rows(), w.cols()};
    }
    // The same in panels of so many rows. out: storage_size(w.rows(), w.cols(), panel) elements.
    template <Index panel>
    static void pack_panels(MatrixView<const float> w, Element* out) noexcept {
        for (Index first = 0; first < w.rows(); first += panel) {
            const Index rows = std::min(panel, w.rows() - first);
            pack_panel<panel>(rows, w.cols(), Rounded{w.middle_rows(first, rows)}, out);
            out += storage_size(panel, w.cols(), panel);
        }
    }
    // One panel of rows that lie in bfloat16: the bits that pack makes of finite ones' values.
    // at[0 … rows): cols elements each, of any alignment. rows ≤ panel_rows.
    static void pack_stored(const std::byte* const* at, Index rows, Index cols,
                            Element* out) noexcept {
        pack_panel<panel_rows>(rows, cols, Stored{at}, out);
    }

    // Writes W, row-major: the values rounded when packed, exactly. out: [rows, cols].
    void unpack(MatrixView<float> out) const noexcept {
        for (Index r = 0; r < rows_; ++r) copy_row(r, out.row(r));
    }

    // Row r of W (an embedding) to out[0 … cols).
    void copy_row(Index r, float* out) const noexcept {
        for (Index c = 0; c < cols_; ++c) out[c] = at(r, c);
    }

    float at(Index r, Index c) const noexcept {
        return float_from_bf16(data_[r / panel_rows * panel_rows * depth() +
                                     c / 2 * 2 * panel_rows + r % panel_rows * 2 + c % 2]);
    }

    const Element* data() const noexcept { return data_; }
    Index rows() const noexcept { return rows_; }
    Index cols() const noexcept { return cols_; }
    Index panels() const noexcept { return ceil_div(rows_, panel_rows); }
    Panel panel(Index i) const noexcept { return {data_ + i * panel_rows * depth()}; }

private:
    // Where a panel's rows come from. words(r, c): the pairs from (c, c + 1) on of row r, as many
    // as a vector has lanes.
    struct Rounded {
        MatrixView<const float> rows;
        simd::Batch<float> words(Index r, Index c) const noexcept {
            const float* const at = rows.row(r) + c;
            return simd::bf16_pairs(simd::load(at), simd::load(at + simd::lanes<float>));
        }
        Element element(Index r, Index c) const noexcept { return bf16_from(rows(r, c)); }
    };
    struct Stored {
        const std::byte* const* at;
        simd::Batch<float> words(Index r, Index c) const noexcept {
            simd::Batch<float> found;
            std::memcpy(&found, at[r] + c * Index{sizeof(Element)}, sizeof found);
            return found;
        }
        Element element(Index r, Index c) const noexcept {
            Element found;
            std::memcpy(&found, at[r] + c * Index{sizeof(Element)}, sizeof found);
            return found;
        }
    };

    template <Index panel, class Source>
    static void pack_panel(Index rows, Index cols, const Source& source, Element* out) noexcept {
        constexpr Index square = 2 * simd::lanes<float>;  // inputs of pairs that a vector has
        const Index depth = round_up(cols, group);
        Index c = 0;
        if constexpr (panel == panel_rows)
            for (; rows == panel && c + square <= cols; c += square, out += square * panel)
                for (Index half = 0; half < panel; half += panel / 2)
                    pack_square(source, half, c, out + 2 * half);
        for (; c < depth; c += 2, out += 2 * panel)
            for (Index r = 0; r < panel; ++r)
                for (Index i = 0; i < 2; ++i)
                    out[2 * r + i] =
                        r < rows && c + i < cols ? source.element(r, c + i) : Element{0};
    }

    // Of half a panel's rows, from row first on, as many inputs: the pairs of a row are words of a
    // vector, and these vectors a square.
    template <class Source>
    static void pack_square(const Source& source, Index first, Index c, Element* out) noexcept {
        constexpr Index lanes = simd::lanes<float>;
        std::array<simd::Batch<float>, static_cast<std::size_t>(lanes)> words;
        for (Index r = 0; r < lanes; ++r)
            words[static_cast<std::size_t>(r)] = source.words(first + r, c);
        simd::transpose<float>(words);
        for (Index j = 0; j < lanes; ++j)
            std::memcpy(out + j * 2 * panel_rows, &words[static_cast<std::size_t>(j)],
                        sizeof words[0]);
    }

    Index depth() const noexcept { return round_up(cols_, group); }

    const Element* data_ = nullptr;
    Index rows_ = 0;
    Index cols_ = 0;
};

}  // namespace HYDRALM_NAMESPACE::weights
