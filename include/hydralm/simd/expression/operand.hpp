// What an expression is made of: views, pointers and scalars as operands. An operand is bound to a
// row before the loop over its elements; bound, it gives a batch for a place.
#pragma once

#include <concepts>
#include <span>
#include <type_traits>

#include "hydralm/core/row_view.hpp"
#include "hydralm/simd/expression/place.hpp"

namespace HYDRALM_NAMESPACE {

namespace detail {

template <class X>
inline constexpr bool is_span = false;
template <class T, std::size_t Extent>
inline constexpr bool is_span<std::span<T, Extent>> = true;

// A vector, an array: what view() makes a view of.
template <class X>
concept Container = Spannable<const X&> && !EigenObject<X> && !is_span<X>;

}  // namespace detail

// The extent of an operand that is as long as whatever meets it.
inline constexpr Index any_extent = -2;

// An operand, or a tree of operations over operands, all by value.
//   Scalar        float or double; void where any will do
//   rank          2 a matrix, 1 a row, 0 a scalar
//   extent        columns: a number, dynamic, or any_extent
//   zero_padded   whether a batch beyond the end is 0
//   views         how many of its operands have a size, to compare with the output's
//   bind<T>(row)  what gives the batches of that row
//   each_view(f)  f(view) for every operand of known size
// Operands are copied member by member: copied as blocks of memory, large trees would not be taken
// apart into registers.
template <class E>
concept Expression = requires {
    typename std::remove_cvref_t<E>::Scalar;
    { std::remove_cvref_t<E>::rank } -> std::convertible_to<int>;
    { std::remove_cvref_t<E>::zero_padded } -> std::convertible_to<bool>;
};

// A row: [n], read in every row of a matrix.
template <class T, Index Extent>
struct RowOperand {
    using Scalar = std::remove_const_t<T>;
    static constexpr int rank = 1, views = 1;
    static constexpr Index extent = Extent;
    static constexpr bool zero_padded = true;

    RowView<T, Extent> view;

    constexpr explicit RowOperand(const RowView<T, Extent>& x) noexcept : view(x) {}
    [[gnu::always_inline]] constexpr RowOperand(const RowOperand& x) noexcept
        : view(x.view.data(), x.view.size()) {}

    template <Real>
    [[gnu::always_inline]] auto bind(Index) const noexcept {
        return detail::BoundElements<const Scalar*>{view.data()};
    }
    T* target(Index) const noexcept { return view.data(); }
    template <class F>
    [[gnu::always_inline]] void each_view(const F& f) const {
        f(view);
    }
};

// A matrix, row by row. Sized: false where its shape is the output's by construction.
template <class T, Index Cols, bool Sized = true>
struct MatrixOperand {
    using Scalar = std::remove_const_t<T>;
    static constexpr int rank = 2, views = Sized ? 1 : 0;
    static constexpr Index extent = Sized ? Cols : any_extent;
    static constexpr bool zero_padded = true;

    MatrixView<T, Cols> view;

    constexpr explicit MatrixOperand(const MatrixView<T, Cols>& x) noexcept : view(x) {}
    [[gnu::always_inline]] constexpr MatrixOperand(const MatrixOperand& x) noexcept
        : view(x.view.data(), x.view.rows(), x.view.cols(), x.view.stride()) {}

    template <Real>
    [[gnu::always_inline]] auto bind(Index row) const noexcept {
        return detail::BoundElements<const Scalar*>{view.row(row)};
    }
    T* target(Index row) const noexcept { return view.row(row); }
    template <class F>
    [[gnu::always_inline]] void each_view(const F& f) const {
        if constexpr (Sized) f(view);
    }
};

// A row whose elements are a fixed distance apart.
template <class T>
struct StridedOperand {
    using Scalar = std::remove_const_t<T>;
    static constexpr int rank = 1, views = 1;
    static constexpr Index extent = dynamic;
    static constexpr bool zero_padded = true;

    StridedSpan<T> view;

    constexpr explicit StridedOperand(const StridedSpan<T>& x) noexcept : view(x) {}
    [[gnu::always_inline]] constexpr StridedOperand(const StridedOperand& x) noexcept
        : view(x.view.data(), x.view.size(), x.view.stride()) {}

    template <Real>
    auto bind(Index) const noexcept {
        return detail::BoundElements<detail::StridedPointer<T>>{target(0)};
    }
    detail::StridedPointer<T> target(Index) const noexcept { return {view.data(), view.stride()}; }
    template <class F>
    [[gnu::always_inline]] void each_view(const F& f) const {
        f(view);
    }
};

// As many elements from p as the output has: nothing to check.
template <class T>
struct PointerOperand {
    using Scalar = std::remove_const_t<T>;
    static constexpr int rank = 1, views = 0;
    static constexpr Index extent = any_extent;
    static constexpr bool zero_padded = true;

    T* p;

    constexpr explicit PointerOperand(T* pointer) noexcept : p(pointer) {}
    [[gnu::always_inline]] constexpr PointerOperand(const PointerOperand& x) noexcept : p(x.p) {}

    template <Real>
    [[gnu::always_inline]] auto bind(Index) const noexcept {
        return detail::BoundElements<const Scalar*>{p};
    }
    T* target(Index) const noexcept { return p; }
    template <class F>
    [[gnu::always_inline]] void each_view(const F&) const noexcept {}
};

// One number for all elements, converted to theirs: rounded once.
template <class A>
struct ScalarOperand {
    using Scalar = void;
    static constexpr int rank = 0, views = 0;
    static constexpr Index extent = any_extent;
    static constexpr bool zero_padded = false;

    A value;

    constexpr explicit ScalarOperand(A a) noexcept : value(a) {}
    [[gnu::always_inline]] constexpr ScalarOperand(const ScalarOperand& x) noexcept
        : value(x.value) {}

    template <Real T>
    [[gnu::always_inline]] auto bind(Index) const noexcept {
        return detail::BoundScalar<T>{simd::broadcast<T>(static_cast<T>(value))};
    }
    template <class F>
    [[gnu::always_inline]] void each_view(const F&) const noexcept {}
};

// One number for each row of a matrix: [N].
template <class T>
struct ColumnOperand {
    using Scalar = std::remove_const_t<T>;
    static constexpr int rank = 2, views = 1;
    static constexpr Index extent = any_extent;
    static constexpr bool zero_padded = false;

    StridedSpan<T> view;

    constexpr explicit ColumnOperand(const StridedSpan<T>& x) noexcept : view(x) {}
    [[gnu::always_inline]] constexpr ColumnOperand(const ColumnOperand& x) noexcept
        : view(x.view.data(), x.view.size(), x.view.stride()) {}

    template <Real>
    [[gnu::always_inline]] auto bind(Index row) const noexcept {
        return detail::BoundScalar<Scalar>{simd::broadcast<Scalar>(view[row])};
    }
    template <class F>
    [[gnu::always_inline]] void each_view(const F& f) const {
        f(*this);
    }
};

// Operands from what a caller has.
template <Expression E>
[[gnu::always_inline]] constexpr E operand(const E& e) noexcept {
    return e;
}
template <class A>
    requires std::is_arithmetic_v<A>
[[gnu::always_inline]] constexpr auto operand(A value) noexcept {
    using Number = std::conditional_t<std::same_as<A, float>, float, double>;
    return ScalarOperand<Number>{static_cast<Number>(value)};
}
template <class T, Index Cols>
[[gnu::always_inline]] constexpr auto operand(const MatrixView<T, Cols>& x) noexcept {
    return MatrixOperand<T, Cols>{x};
}
template <class T, Index Extent>
[[gnu::always_inline]] constexpr auto operand(const RowView<T, Extent>& x) noexcept {
    return RowOperand<T, Extent>{x};
}
template <class T>
[[gnu::always_inline]] constexpr auto operand(const StridedSpan<T>& x) noexcept {
    return StridedOperand<T>{x};
}
template <class T, std::size_t Extent>
[[gnu::always_inline]] constexpr auto operand(const std::span<T, Extent>& x) noexcept {
    return operand(view(x));
}
template <detail::EigenObject X>
[[gnu::always_inline]] constexpr auto operand(const X&) noexcept {
    static_assert(!detail::EigenObject<X>,
                  "hydralm: operand: an Eigen object enters an expression through view(); write "
                  "view(x)");
    return ScalarOperand<double>{0.0};
}
template <detail::Container X>
[[gnu::always_inline]] constexpr auto operand(const X&) noexcept {
    static_assert(!detail::Container<X>,
                  "hydralm: operand: a vector or an array enters an expression through view(); "
                  "write view(x)");
    return ScalarOperand<double>{0.0};
}

// Elements, or a matrix, that are there wherever the output has one, by the caller's word: for code
// that knows its sizes, as kernels do. Nothing is checked and nothing can throw.
template <Real T>
[[gnu::always_inline]] constexpr auto in(const T* p) noexcept {
    return PointerOperand<const T>{p};
}
template <class T, Index Cols>
[[gnu::always_inline]] constexpr auto in(const MatrixView<T, Cols>& x) noexcept {
    return MatrixOperand<const std::remove_const_t<T>, Cols, false>{x};
}

// v[n] for every element of row n: a column, read in every column of a matrix.
template <class T>
[[gnu::always_inline]] constexpr auto column(const StridedSpan<T>& v) noexcept {
    return ColumnOperand<T>{v};
}
template <class T, Index Extent>
[[gnu::always_inline]] constexpr auto column(const RowView<T, Extent>& v) noexcept {
    return ColumnOperand<T>{StridedSpan<T>(v.data(), v.size())};
}
template <class T, std::size_t Extent>
[[gnu::always_inline]] constexpr auto column(const std::span<T, Extent>& v) noexcept {
    return column(view(v));
}

namespace detail {

// What must enter through view().
template <class X>
concept Foreign = EigenObject<X> || Container<std::remove_cvref_t<X>>;

template <class X>
concept OperandLike = Foreign<X> || requires(const std::remove_cvref_t<X>& x) { operand(x); };

// What makes a function ours: all but numbers. What is foreign is taken to be told the way in,
// where Eigen and the standard have no function of that name.
template <class X>
concept Elements = OperandLike<X> && !std::is_arithmetic_v<std::remove_cvref_t<X>>;
template <class X>
concept OwnElements = !Foreign<X> && Elements<X>;

template <class X>
using operand_t = decltype(operand(std::declval<const std::remove_cvref_t<X>&>()));

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE
