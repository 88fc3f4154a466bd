// RowView: contiguous elements, non-owning; and view(), which makes a view of a pointer, a span or
// an Eigen object.
#pragma once

#include <concepts>
#include <span>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/strided_span.hpp"

namespace HYDRALM_NAMESPACE {

// size() elements of T, one after another. Extent is their number when the type knows it. A view of
// T converts to a view of const T, and a static extent to a dynamic one. Copying copies no element.
template <class T, Index Extent = dynamic>
class RowView {
public:
    using Scalar = std::remove_const_t<T>;

    constexpr RowView() noexcept : size_(0) {}
    constexpr RowView(T* data, Index size) noexcept : data_(data), size_(size) {}
    constexpr explicit RowView(T* data) noexcept
        requires(Extent != dynamic)
        : RowView(data, Extent) {}
    template <class U, Index Other>
        requires(std::is_convertible_v<U (*)[], T (*)[]> && (Extent == Other || Extent == dynamic))
    constexpr RowView(const RowView<U, Other>& other) noexcept
        : RowView(other.data(), other.size()) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr Index size() const noexcept { return size_.value(); }
    constexpr T& operator[](Index i) const noexcept { return data_[i]; }

private:
    T* data_ = nullptr;
    [[no_unique_address]] detail::ColumnExtent<Extent> size_;
};

namespace detail {

template <class X>
concept EigenObject =
    std::derived_from<std::remove_cvref_t<X>, Eigen::EigenBase<std::remove_cvref_t<X>>>;

template <class X>
concept Spannable = requires(X&& x) { std::span(std::forward<X>(x)); };

template <std::size_t Extent>
inline constexpr Index span_extent =
    Extent == std::dynamic_extent ? dynamic : static_cast<Index>(Extent);

}  // namespace detail

// n elements from p; view<N>(p) where N is known to the type.
template <class T>
constexpr RowView<T> view(T* p, Index n) noexcept {
    return {p, n};
}
template <Index N, class T>
constexpr RowView<T, N> view(T* p) noexcept {
    return RowView<T, N>(p);
}

// A view as it is.
template <class T, Index Cols>
constexpr MatrixView<T, Cols> view(const MatrixView<T, Cols>& x) noexcept {
    return x;
}
template <class T, Index Extent>
constexpr RowView<T, Extent> view(const RowView<T, Extent>& x) noexcept {
    return x;
}
template <class T>
constexpr StridedSpan<T> view(const StridedSpan<T>& x) noexcept {
    return x;
}

// The elements of a span, or of anything that becomes one: a vector, an array.
template <class X>
    requires(detail::Spannable<X> && !detail::EigenObject<X>)
constexpr auto view(X&& x) noexcept {
    const auto s = std::span(std::forward<X>(x));
    using S = std::remove_const_t<decltype(s)>;
    return RowView<typename S::element_type, detail::span_extent<S::extent>>(
        s.data(), static_cast<Index>(s.size()));
}

// The memory of a map, a Ref, a block or a matrix of Eigen: a MatrixView of a row-major matrix, a
// RowView of a vector. Const elements for a const object. Static sizes stay static.
template <detail::EigenObject X>
auto view(X&& x) noexcept {
    using E = std::remove_cvref_t<X>;
    static_assert(
        (static_cast<int>(Eigen::internal::traits<E>::Flags) & Eigen::DirectAccessBit) != 0,
        "hydralm: view: an Eigen expression has no memory; evaluate it into a matrix "
        "first");
    static_assert(std::is_lvalue_reference_v<X> || !std::derived_from<E, Eigen::PlainObjectBase<E>>,
                  "hydralm: view: the matrix is gone when the line ends; give it a name");
    static_assert(E::IsVectorAtCompileTime || E::IsRowMajor,
                  "hydralm: layout: the elements of a row must be contiguous; make the matrix "
                  "Eigen::RowMajor");
    static_assert(E::InnerStrideAtCompileTime == 1,
                  "hydralm: layout: the elements of a row must be contiguous; use an inner stride "
                  "of 1");
    using T = std::remove_pointer_t<decltype(x.data())>;
    if constexpr (E::IsVectorAtCompileTime)
        return RowView<T, E::SizeAtCompileTime>(x.data(), x.size());
    else return MatrixView<T, E::ColsAtCompileTime>(x.data(), x.rows(), x.cols(), x.outerStride());
}

}  // namespace HYDRALM_NAMESPACE
