// StoredRows: a matrix made of rows of stored tensors, for weights::pack_rows.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "hydralm/io/stored_tensor.hpp"
#include "hydralm/weights/pack_rows.hpp"

namespace HYDRALM_NAMESPACE {

// Valid as long as the tensors, all of so many columns.
template <Real T>
class StoredRows final : public weights::RowSource<T> {
    static_assert(weights::RowSource<T>::piece_cols % BlockCode::most_weights == 0);

public:
    explicit StoredRows(Index cols) noexcept : cols_(cols) {}
    // Rows [first, first + count) of tensor, behind those there are. The tensor has them, of a
    // floating dtype.
    void add(const StoredTensor& tensor, Index first, Index count) {
        runs_.push_back({&tensor, first - rows_, rows_ + count});
        rows_ += count;
    }
    // Whether all that was read is.
    bool finite() const noexcept { return finite_; }

    void read(Index row, Index column, MatrixView<T> out) const noexcept override {
        // magnitudes are ordered as their bits are, infinity and NaN above all
        using Bits = std::conditional_t<sizeof(T) == sizeof(float), std::int32_t, std::int64_t>;
        constexpr auto infinity = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
        Bits most = 0;
        for (Index r = 0; r < out.rows(); ++r) {
            const Run& run = run_of(row + r);
            T* const to = out.row(r);
            run.tensor->convert_row(run.shift + row + r, column, to, out.cols());
            for (Index c = 0; c < out.cols(); ++c)
                most =
                    std::max(most, std::bit_cast<Bits>(to[c]) & std::numeric_limits<Bits>::max());
        }
        if (most >= infinity) finite_ = false;
    }
    const std::byte* blocks(Index row, weights::Format format) const noexcept override {
        if (cols_ % weights::block_size != 0)
            return nullptr;  // the last block has weights too many
        const Run& run = run_of(row);
        const auto blocks = run.tensor->row_of_blocks(run.shift + row, format);
        bool finite = true;
        for (std::size_t at = 0; at < blocks.size();
             at += static_cast<std::size_t>(block_bytes(format))) {
            constexpr auto exponent = std::byte{0x7c};  // of a scale's upper byte
            finite &= (blocks[at + 1] & exponent) != exponent;
        }
        if (!finite) finite_ = false;
        return blocks.data();
    }

private:
    struct Run {
        const StoredTensor* tensor;
        Index shift;  // from a row here to the tensor's
        Index end;    // its rows here are before this one
    };
    const Run& run_of(Index row) const noexcept {
        return *std::upper_bound(runs_.begin(), runs_.end(), row,
                                 [](Index r, const Run& run) { return r < run.end; });
    }

    std::vector<Run> runs_;
    Index cols_, rows_ = 0;
    mutable std::atomic<bool> finite_{true};
};

}  // namespace HYDRALM_NAMESPACE
