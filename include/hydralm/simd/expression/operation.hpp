// An operation over operands, and what holds of a tree: its scalar, rank and extent, found and
// checked by the compiler.
#pragma once

#include <algorithm>
#include <tuple>
#include <utility>

#include "hydralm/simd/expression/operand.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

template <class A, class B>
struct CommonScalar {
    static_assert(
        std::same_as<A, B> || std::is_void_v<A> || std::is_void_v<B>,
        "hydralm: scalars: the operands of an expression must be all float or all double; "
        "convert one of them first");
    using type = std::conditional_t<std::is_void_v<A>, B, A>;
};
template <class A, class... Rest>
struct ScalarOf {
    using type = typename CommonScalar<A, typename ScalarOf<Rest...>::type>::type;
};
template <class A>
struct ScalarOf<A> {
    using type = A;
};

// The extent of two that meet, each a number, dynamic or any_extent.
template <Index A, Index B>
struct CommonExtent {
    static_assert(A < 0 || B < 0 || A == B,
                  "hydralm: extents: what meets in an expression must be equally long; cut the "
                  "views to one length");
    static constexpr Index value = A > B ? A : B;
};
template <Index A, Index... Rest>
struct ExtentOf {
    static constexpr Index value = CommonExtent<A, ExtentOf<Rest...>::value>::value;
};
template <Index A>
struct ExtentOf<A> {
    static constexpr Index value = A;
};
static_assert(dynamic == -1 && any_extent < dynamic);

// f(the elements of a tuple), always inlined.
template <class F, class... X>
[[gnu::always_inline]] constexpr decltype(auto) spread(const F& f, const std::tuple<X...>& x) {
    return [&]<std::size_t... I>(std::index_sequence<I...>)
               __attribute__((always_inline)) -> decltype(auto) {
                   return f(std::get<I>(x)...);
               }(std::index_sequence_for<X...>{});
}

template <class F, class... Bound>
struct BoundOperation {
    [[no_unique_address]] F f;
    std::tuple<Bound...> operands;

    template <class At>
    [[gnu::always_inline]] auto operator()(const At& at) const noexcept {
        return spread([&](const Bound&... x) __attribute__((always_inline)) { return f(x(at)...); },
                      operands);
    }
};

}  // namespace detail

// f of the elements of the operands. f takes batches and returns one, or a mask where
// F::gives_mask.
template <class F, Expression... A>
struct Operation {
    using Scalar = typename detail::ScalarOf<typename A::Scalar...>::type;
    static constexpr int rank = std::max({A::rank...}), views = (A::views + ...);
    static constexpr Index extent = detail::ExtentOf<A::extent...>::value;
    static constexpr bool zero_padded = F::keeps_zero && (A::zero_padded && ...);
    static constexpr bool gives_mask = F::gives_mask;

    [[no_unique_address]] F f;
    std::tuple<A...> operands;

    template <Real T>
    [[gnu::always_inline]] auto bind(Index row) const noexcept {
        return detail::spread(
            [&](const A&... a) __attribute__((always_inline)) {
                return detail::BoundOperation<F, decltype(a.template bind<T>(row))...>{
                    f, {a.template bind<T>(row)...}};
            },
            operands);
    }
    template <class V>
    [[gnu::always_inline]] void each_view(const V& f_of_view) const {
        detail::spread([&](const A&... a)
                           __attribute__((always_inline)) { (a.each_view(f_of_view), ...); },
                       operands);
    }
};

namespace detail {

template <class F, class... X>
[[gnu::always_inline]] constexpr auto operation(const F& f, const X&... x) noexcept {
    return Operation<F, operand_t<X>...>{f, {operand(x)...}};
}

// What a function of elements says of itself: whether f(0, …) is 0, and whether it gives a mask.
template <bool KeepsZero = false, bool GivesMask = false>
struct Elementwise {
    static constexpr bool keeps_zero = KeepsZero, gives_mask = GivesMask;
};

struct Plus : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b) const noexcept {
        return a + b;
    }
};
struct Minus : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b) const noexcept {
        return a - b;
    }
};
struct Times : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b) const noexcept {
        return a * b;
    }
};
struct Over : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b) const noexcept {
        return a / b;
    }
};
struct Negative : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a) const noexcept {
        return -a;
    }
};
struct Less : Elementwise<false, true> {
    template <class B>
    [[gnu::always_inline]] auto operator()(const B& a, const B& b) const noexcept {
        return a < b;
    }
};
struct LessEqual : Elementwise<false, true> {
    template <class B>
    [[gnu::always_inline]] auto operator()(const B& a, const B& b) const noexcept {
        return a <= b;
    }
};

template <class A, class B>
concept Operands = (OwnElements<A> && OperandLike<B>) || (OperandLike<A> && OwnElements<B>);

}  // namespace detail

// a + b, a − b, a · b, a / b, −a element by element, each rounded once: 0.5 units in the last
// place. A scalar meets every element, a row every row of a matrix. A product and a sum may become
// one multiply-add.
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator+(const A& a, const B& b) noexcept {
    return detail::operation(detail::Plus{}, a, b);
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator-(const A& a, const B& b) noexcept {
    return detail::operation(detail::Minus{}, a, b);
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator*(const A& a, const B& b) noexcept {
    return detail::operation(detail::Times{}, a, b);
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator/(const A& a, const B& b) noexcept {
    return detail::operation(detail::Over{}, a, b);
}
template <detail::OwnElements A>
[[gnu::always_inline]] constexpr auto operator-(const A& a) noexcept {
    return detail::operation(detail::Negative{}, a);
}

// Comparisons, for select; false with a NaN.
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator<(const A& a, const B& b) noexcept {
    return detail::operation(detail::Less{}, a, b);
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator<=(const A& a, const B& b) noexcept {
    return detail::operation(detail::LessEqual{}, a, b);
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator>(const A& a, const B& b) noexcept {
    return b < a;
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto operator>=(const A& a, const B& b) noexcept {
    return b <= a;
}

}  // namespace HYDRALM_NAMESPACE
