// out(y) = expression: one loop over the elements, each input loaded once, each output stored once.
//
// An element's bits depend on its operands only, not on its place: the end of a row is computed as
// a whole batch padded with zeros.
#pragma once

#include "hydralm/simd/expression/check.hpp"
#include "hydralm/simd/expression/operation.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// The batches of several expressions at a place, computed before any is stored.
template <class At, class Targets, class... Bound>
[[gnu::always_inline]] inline void evaluate(const At& at, const Targets& targets,
                                            const Bound&... bound) noexcept {
    [&]<std::size_t... I>(std::index_sequence<I...>, auto... batch) __attribute__((always_inline)) {
        (store(std::get<I>(targets), batch, at), ...);
    }(std::index_sequence_for<Bound...>{}, bound(at)...);
}

template <Real T, class Targets, class... Bound>
[[gnu::always_inline]] inline void assign_row(Index n, const Targets& targets,
                                              const Bound&... bound) noexcept {
    constexpr Index lanes = simd::lanes<T>;
    Index i = 0;
    for (; i + lanes <= n; i += lanes) evaluate(Whole{i}, targets, bound...);
    if (i < n) evaluate(Part{i, n - i}, targets, bound...);
}

// As assign_row for one output, and the sum of what is written: two partial batches, then lanes.
template <Real T, class Target, class Bound>
[[gnu::always_inline]] inline T assign_and_sum_row(Index n, const Target& y,
                                                   const Bound& bound) noexcept {
    using Batch = simd::Batch<T>;
    constexpr Index lanes = simd::lanes<T>;
    Batch s0(T(0)), s1(T(0));
    Index i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
        const Batch y0 = bound(Whole{i}), y1 = bound(Whole{i + lanes});
        store(y, y0, Whole{i});
        store(y, y1, Whole{i + lanes});
        s0 = s0 + y0;
        s1 = s1 + y1;
    }
    if (i + lanes <= n) {
        const Batch y0 = bound(Whole{i});
        store(y, y0, Whole{i});
        s0 = s0 + y0;
        i += lanes;
    }
    if (i < n) {
        const Part rest{i, n - i};
        store(y, Batch(bound(rest)), rest);
        s1 = s1 + load(y, rest);
    }
    return simd::reduce_add<T>(s0 + s1);
}

template <class Output, class E>
constexpr void check_expression() noexcept {
    static_assert(E::rank <= Output::rank,
                  "hydralm: rank: a matrix does not fit into a row; give out() a matrix");
    static_assert(CommonExtent<Output::extent, E::extent>::value >= any_extent);
    static_assert(
        std::is_void_v<typename E::Scalar> ||
            std::same_as<typename E::Scalar, typename Output::Scalar>,
        "hydralm: scalars: the operands of an expression must be all float or all double; "
        "convert one of them first");
    if constexpr (requires { E::gives_mask; })
        static_assert(!E::gives_mask,
                      "hydralm: select: a comparison is no number; write select(x > 0, a, b)");
}

}  // namespace detail

// Expressions for several outputs, in their order.
template <Expression... E>
struct ListedValues {
    std::tuple<E...> expressions;
};
template <class... X>
constexpr auto values(const X&... x) noexcept {
    return ListedValues<detail::operand_t<X>...>{{operand(x)...}};
}

// What out() returns: the left side of an assignment, to be used where it stands.
template <class First, class... Rest>
class Output {
public:
    using T = typename First::Scalar;
    static_assert((std::same_as<T, typename Rest::Scalar> && ...),
                  "hydralm: scalars: the outputs must be all float or all double");
    static_assert(((Rest::rank == First::rank || Rest::extent == any_extent) && ...),
                  "hydralm: rank: the outputs must be all rows or all matrices");

    constexpr explicit Output(const First& first, const Rest&... rest) noexcept
        : targets_(first, rest...) {}
    Output(const Output&) = delete;
    Output& operator=(const Output&) {
        static_assert(sizeof(T) == 0,
                      "hydralm: out: only the left side is an output; write out(y) = x");
    }

    template <class X>
    [[gnu::always_inline]] void operator=(const X& x) const
        noexcept(detail::operand_t<X>::views == 0) {
        static_assert(sizeof...(Rest) == 0,
                      "hydralm: out: several outputs take as many expressions; write out(a, b) = "
                      "values(x, y)");
        assign(operand(x));
    }
    template <class... E>
    [[gnu::always_inline]] void operator=(const ListedValues<E...>& values) const
        noexcept((Rest::views + ... + 0) + (E::views + ... + 0) == 0) {
        static_assert(sizeof...(E) == 1 + sizeof...(Rest),
                      "hydralm: out: several outputs take as many expressions; write out(a, b) = "
                      "values(x, y)");
        detail::spread([&](const E&... e) __attribute__((always_inline)) { assign(e...); },
                       values.expressions);
    }
    // y = y + x, and so on.
    template <class X>
    [[gnu::always_inline]] void operator+=(const X& x) const
        noexcept(detail::operand_t<X>::views == 0) {
        *this = itself() + x;
    }
    template <class X>
    [[gnu::always_inline]] void operator-=(const X& x) const
        noexcept(detail::operand_t<X>::views == 0) {
        *this = itself() - x;
    }
    template <class X>
    [[gnu::always_inline]] void operator*=(const X& x) const
        noexcept(detail::operand_t<X>::views == 0) {
        *this = itself() * x;
    }
    template <class X>
    [[gnu::always_inline]] void operator/=(const X& x) const
        noexcept(detail::operand_t<X>::views == 0) {
        *this = itself() / x;
    }

    // Assigns a row and returns the sum of what it wrote, without reading it again. Order: two
    // partial batches, then lanes; it depends on the length only.
    template <class X>
    [[gnu::always_inline]] T assign_and_sum(const X& x) const
        noexcept(detail::operand_t<X>::views == 0) {
        using E = detail::operand_t<X>;
        static_assert(sizeof...(Rest) == 0 && First::rank == 1,
                      "hydralm: rank: assign_and_sum sums one row; call it row by row");
        const E e = operand(x);
        check(e);
        return detail::assign_and_sum_row<T>(columns(), std::get<0>(targets_).target(0),
                                             e.template bind<T>(0));
    }

private:
    // The output as an operand, whose size needs no check.
    auto itself() const noexcept {
        static_assert(
            sizeof...(Rest) == 0,
            "hydralm: out: several outputs take =; write out(a, b) = values(a + x, b + y)");
        const First& y = std::get<0>(targets_);
        if constexpr (First::rank == 2) return in(y.view);
        else if constexpr (requires { y.view.stride(); }) return y;
        else return in(y.target(0));
    }

    // The length of the rows, a constant where the type knows it.
    constexpr Index columns() const noexcept {
        if constexpr (First::extent >= 0) return First::extent;
        else if constexpr (First::rank == 2) return std::get<0>(targets_).view.cols();
        else return std::get<0>(targets_).view.size();
    }

    template <class... E>
    [[gnu::always_inline]] void check(const E&... e) const {
        (detail::check_expression<First, E>(), ...);
        if constexpr ((Rest::views + ... + 0) + (E::views + ... + 0) > 0)
            detail::check_views(targets_, e...);
    }

    template <class... E>
    [[gnu::always_inline]] void assign(const E&... e) const
        noexcept((Rest::views + ... + 0) + (E::views + ... + 0) == 0) {
        check(e...);
        const Index n = columns();
        detail::spread(
            [&](const auto&... y) __attribute__((always_inline)) {
                if constexpr (First::rank == 2) {
                    for (Index row = 0; row < std::get<0>(targets_).view.rows(); ++row)
                        detail::assign_row<T>(n, std::tuple{y.target(row)...},
                                              e.template bind<T>(row)...);
                } else {
                    detail::assign_row<T>(n, std::tuple{y.target(0)...}, e.template bind<T>(0)...);
                }
            },
            targets_);
    }

    std::tuple<First, Rest...> targets_;
};

namespace detail {

template <class X>
concept Writable = OperandLike<X> && requires(const operand_t<X>& e) { e.target(Index{}); };

template <class X>
constexpr auto output_operand(const X& y) noexcept {
    using E = operand_t<X>;
    static_assert(
        requires(const E& e) { e.target(Index{}); },
        "hydralm: out: the output must be a view; vectors, arrays and Eigen objects enter through "
        "view()");
    if constexpr (requires(const E& e) { e.target(Index{}); }) {
        using Element = std::remove_pointer_t<decltype(std::declval<const E&>().target(0))>;
        static_assert(
            !std::is_const_v<Element> &&
                !std::same_as<Element, StridedPointer<const typename E::Scalar>>,
            "hydralm: out: the output's elements are const; give out() a view of what may "
            "be written");
    }
    return operand(y);
}

}  // namespace detail

// The outputs of an assignment: rows, matrices, strided spans, spans.
//
//   out(y) = silu(g) * u;       out(w) -= rate * g;       out(m, v) = values(m + g, v + g * g);
//
// Writes every element of y once. Operands may be the output itself: an element depends on operands
// at its own place, and all of them are read before it is written. Where a size differs or an
// operand lies over other elements of the output, throws Error before anything is written; sizes
// that the types know are compared by the compiler. No allocation. Cost: one load for each input,
// one store for each output.
template <class... X>
    requires(sizeof...(X) > 0 && (detail::OperandLike<X> && ...))
[[nodiscard]] constexpr auto out(const X&... y) noexcept {
    return Output<decltype(detail::output_operand(y))...>(detail::output_operand(y)...);
}
// n elements from each pointer. With operands that are pointers too, in(p), nothing is checked and
// nothing can throw.
template <Real T, std::same_as<T>... Rest>
[[nodiscard]] constexpr auto out(Index n, T* y, Rest*... rest) noexcept {
    return Output<RowOperand<T, dynamic>, PointerOperand<Rest>...>(
        RowOperand<T, dynamic>{RowView<T>{y, n}}, PointerOperand<Rest>{rest}...);
}
// N elements, N known to the type.
template <Index N, Real T, std::same_as<T>... Rest>
[[nodiscard]] constexpr auto out(T* y, Rest*... rest) noexcept {
    return Output<RowOperand<T, N>, PointerOperand<Rest>...>(RowOperand<T, N>{RowView<T, N>(y)},
                                                             PointerOperand<Rest>{rest}...);
}

}  // namespace HYDRALM_NAMESPACE
