// StoredRows: a matrix made of rows of stored tensors, for weights::pack_rows.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
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
    const std::byte* as_it_lies(Index row, weights::Format format) const noexcept override {
        const Run& run = run_of(row);
        const auto bytes = run.tensor->row_as_it_lies(run.shift + row, format);
        if (format == weights::Format::bf16) return finite_bf16(bytes) ? bytes.data() : nullptr;
        if (cols_ % weights::block_size != 0)
            return nullptr;  // the last block has weights too many
        if (!finite_blocks(bytes, block_bytes(format))) finite_ = false;
        return bytes.data();
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

    static bool finite_blocks(std::span<const std::byte> bytes, Index size) noexcept {
        bool finite = true;
        for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(size)) {
            constexpr auto exponent = std::byte{0x7c};  // of a scale's upper byte
            finite &= (bytes[at + 1] & exponent) != exponent;
        }
        return finite;
    }
    static bool finite_bf16(std::span<const std::byte> bytes) noexcept {
        constexpr std::uint16_t infinity = 0x7f80, magnitude = 0x7fff;
        std::uint16_t most = 0;
        for (std::size_t at = 0; at < bytes.size(); at += sizeof most) {
            std::uint16_t bits;
            std::memcpy(&bits, &bytes[at], sizeof bits);
            most = std::max(most, static_cast<std::uint16_t>(bits & magnitude));
        }
        return most < infinity;
    }

    std::vector<Run> runs_;
    Index cols_, rows_ = 0;
    mutable std::atomic<bool> finite_{true};
};

}  // namespace HYDRALM_NAMESPACE
