// MatrixView: rows of contiguous elements with a stride between rows, non-owning, the currency of
// all kernels.
#pragma once

#include <Eigen/Core>
#include <type_traits>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

inline constexpr Index dynamic = Eigen::Dynamic;

namespace detail {
template <Index Extent>
struct ColumnExtent {
    constexpr ColumnExtent(Index) noexcept {}
    static constexpr Index value() noexcept { return Extent; }
};
template <>
struct ColumnExtent<dynamic> {
    Index extent = 0;
    constexpr ColumnExtent(Index n) noexcept : extent(n) {}
    constexpr Index value() const noexcept { return extent; }
};
}  // namespace detail

// A view of [rows, cols] elements of T, row-major; element (i, j) lies at data[i·stride + j].
// Cols is the width when the type knows it. A view of T converts to a view of const T, and a static
// width to a dynamic one. Copying a view copies no element. eigen() is the same memory as an
// Eigen::Map.
template <class T, Index Cols = dynamic>
class MatrixView {
public:
    using Scalar = std::remove_const_t<T>;

    constexpr MatrixView() noexcept : cols_(0) {}
    constexpr MatrixView(T* data, Index rows, Index cols, Index stride) noexcept
        : data_(data), rows_(rows), stride_(stride), cols_(cols) {}
    constexpr MatrixView(T* data, Index rows, Index cols) noexcept
        : MatrixView(data, rows, cols, cols) {}
    constexpr MatrixView(T* data, Index rows) noexcept
        requires(Cols != dynamic)
        : MatrixView(data, rows, Cols, Cols) {}
    template <class U, Index OtherCols>
        requires(std::is_convertible_v<U (*)[], T (*)[]> && (Cols == OtherCols || Cols == dynamic))
    constexpr MatrixView(const MatrixView<U, OtherCols>& other) noexcept
        : MatrixView(other.data(), other.rows(), other.cols(), other.stride()) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr Index rows() const noexcept { return rows_; }
    constexpr Index cols() const noexcept { return cols_.value(); }
    constexpr Index stride() const noexcept { return stride_; }
    constexpr T* row(Index i) const noexcept { return data_ + i * stride_; }
    constexpr T& operator()(Index i, Index j) const noexcept { return data_[i * stride_ + j]; }

    // Rows [first, first + count).
    constexpr MatrixView middle_rows(Index first, Index count) const noexcept {
        return {row(first), count, cols(), stride_};
    }
    // Columns [first, first + count), the same stride.
    constexpr MatrixView<T> middle_cols(Index first, Index count) const noexcept {
        return {data_ + first, rows_, count, stride_};
    }
    template <Index Width>
    constexpr MatrixView<T, Width> middle_cols(Index first) const noexcept {
        return {data_ + first, rows_, Width, stride_};
    }

    auto eigen() const noexcept {
        using Plain =
            Eigen::Matrix<Scalar, Eigen::Dynamic, static_cast<int>(Cols), Eigen::RowMajor>;
        using Matrix = std::conditional_t<std::is_const_v<T>, const Plain, Plain>;
        using Map = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
        return Map(data_, rows_, cols(), Eigen::OuterStride<>(stride_));
    }

private:
    T* data_ = nullptr;
    Index rows_ = 0;
    Index stride_ = 0;
    [[no_unique_address]] detail::ColumnExtent<Cols> cols_;
};

template <class T>
MatrixView(T*, Index, Index) -> MatrixView<T>;
template <class T>
MatrixView(T*, Index, Index, Index) -> MatrixView<T>;

}  // namespace HYDRALM_NAMESPACE
