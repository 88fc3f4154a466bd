// pack_rows: a matrix that lies elsewhere, in a file, packed by all threads as it is read.
#pragma once

#include <algorithm>
#include <array>

#include "hydralm/core/parallel.hpp"
#include "hydralm/weights/any_matrix.hpp"

namespace HYDRALM_NAMESPACE::weights {

// A matrix that is read piece by piece, from any thread.
template <Real T>
class RowSource {
public:
    static constexpr Index piece_cols = 256;

    RowSource() = default;
    RowSource(const RowSource&) = delete;
    RowSource& operator=(const RowSource&) = delete;
    virtual ~RowSource() = default;

    // out = rows [row, row + out.rows()), columns [column, column + out.cols()): at most piece_cols
    // from a multiple of them on.
    virtual void read(Index row, Index column, MatrixView<T> out) const noexcept = 0;
    // The bytes of a row that lies as the format has it, in whole blocks (quantised_block.hpp) or
    // in finite elements (bf16), of any alignment; null where it does not.
    virtual const std::byte* as_it_lies(Index row, Format format) const noexcept = 0;
};

namespace detail {

// Matrices that take rows as files have them.
template <class Matrix>
inline constexpr bool takes_rows_as_they_lie = false;
template <class Block>
inline constexpr bool takes_rows_as_they_lie<QuantisedMatrix<Block>> = true;
template <>
inline constexpr bool takes_rows_as_they_lie<Bf16Matrix> = true;

// A panel. A block that quantising would write in another form gets that form.
template <class Block>
void pack_stored(QuantisedMatrix<Block>, const std::byte* const* at, Index rows, Index cols,
                 typename QuantisedMatrix<Block>::Element* storage) noexcept {
    using Matrix = QuantisedMatrix<Block>;
    Matrix::pack_each(rows, cols, storage,
                      [&](Index first, Index n, Index b, typename Matrix::Across& out) {
                          const Index offset = b * static_cast<Index>(sizeof(Block));
                          const auto in_final_form = [&](Index r) {
                              const Block block = Block::at(at[first + r] + offset);
                              if (block.is_final()) return block;
                              const BlockWeights w = weights_of(block, block_size);
                              return Block::quantise(w.values.data(), block_size);
                          };
                          if (n < Matrix::panel_rows) {
                              for (Index r = 0; r < n; ++r) out.put(r, in_final_form(r));
                              return;
                          }
                          out.put(at + first, offset);
                          out.for_others([&](Index r) { out.put(r, in_final_form(r)); });
                      });
}
inline void pack_stored(Bf16Matrix, const std::byte* const* at, Index rows, Index cols,
                        Bf16Matrix::Element* storage) noexcept {
    Bf16Matrix::pack_stored(at, rows, cols, storage);
}

// Packs a panel's rows as they lie, if all do.
template <class Matrix>
bool pack_as_they_lie(const RowSource<float>& source, Index first, Index rows, Index cols,
                      typename Matrix::Element* storage) noexcept {
    std::array<const std::byte*, static_cast<std::size_t>(Matrix::panel_rows)> at{};
    for (Index r = 0; r < rows; ++r) {
        at[static_cast<std::size_t>(r)] = source.as_it_lies(first + r, Matrix::format);
        if (at[static_cast<std::size_t>(r)] == nullptr) return false;
    }
    pack_stored(Matrix(), at.data(), rows, cols, storage);
    return true;
}

}  // namespace detail

// Packs rows [first, first + rows) of source, of cols columns: the bits that Matrix::pack makes of
// the same values. like: of the format that is wanted. storage: as Matrix::pack's, all written.
// Allocates nothing; 32 KiB of stack; parallel over panels, so memory that was never written is
// taken by all threads.
template <class Matrix>
Matrix pack_rows(const Matrix& like, const RowSource<typename Matrix::Scalar>& source, Index first,
                 Index rows, Index cols, typename Matrix::Element* storage) noexcept {
    if constexpr (carries_format<Matrix>) {
        like.with_format([&]<class M>(const M& known) {
            pack_rows(known, source, first, rows, cols,
                      reinterpret_cast<typename M::Element*>(storage));
        });
        return like.over(storage, rows, cols);
    } else {
        using T = typename Matrix::Scalar;
        constexpr Index panel = Matrix::panel_rows, width = RowSource<T>::piece_cols;
        parallel_for(
            ceil_div(rows, panel),
            [&](Index i) {
                const Index row = first + i * panel, count = std::min(panel, rows - i * panel);
                auto* to = storage + i * Matrix::storage_size(panel, cols);
                if constexpr (detail::takes_rows_as_they_lie<Matrix>)
                    if (detail::pack_as_they_lie<Matrix>(source, row, count, cols, to)) return;
                alignas(alignment) LocalArray<T, panel * width> memory;
                for (Index column = 0; column < cols; column += width) {
                    const MatrixView<T> piece(memory, count, std::min(width, cols - column));
                    source.read(row, column, piece);
                    Matrix::pack(piece, to);
                    to += Matrix::storage_size(panel, piece.cols());
                }
            },
            rows * cols > 100'000);
        return {storage, rows, cols};
    }
}

}  // namespace HYDRALM_NAMESPACE::weights
