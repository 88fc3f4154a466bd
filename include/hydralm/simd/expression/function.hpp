// Element functions of expressions: each applies the batch form of simd/math.hpp, whose error is
// given beside it in units in the last place.
#pragma once

#include "hydralm/simd/activation.hpp"
#include "hydralm/simd/expression/operation.hpp"
#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

struct Exp : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::exp(x);
    }
};
struct ExpFinite : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::exp_finite(x);
    }
};
struct Exp2Finite : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::exp2_finite(x);
    }
};
struct Log : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::log(x);
    }
};
struct Sigmoid : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::sigmoid(x);
    }
};
struct Silu : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::silu(x);
    }
};
struct Softplus : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::softplus(x);
    }
};
struct Gelu : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::gelu(x);
    }
};
struct Tanh : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::tanh(x);
    }
};
struct Sqrt : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::sqrt(x);
    }
};
struct Rsqrt : Elementwise<> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return B(1) / simd::sqrt(x);
    }
};
struct Abs : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return simd::abs(x);
    }
};
struct Square : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& x) const noexcept {
        return x * x;
    }
};
struct Min : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b) const noexcept {
        return simd::min(b, a);
    }
};
struct Max : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b) const noexcept {
        return simd::max(b, a);
    }
};
struct MultiplyAdd : Elementwise<true> {
    template <class B>
    [[gnu::always_inline]] B operator()(const B& a, const B& b, const B& c) const noexcept {
        return simd::fma(a, b, c);
    }
};
struct Select : Elementwise<> {
    template <class Mask, class B>
    [[gnu::always_inline]] B operator()(const Mask& mask, const B& a, const B& b) const noexcept {
        return simd::select(mask, a, b);
    }
};
template <class F>
struct Mapped : Elementwise<> {
    [[no_unique_address]] F f;
    template <class... B>
    [[gnu::always_inline]] auto operator()(const B&... x) const noexcept {
        return f(x...);
    }
};

template <class X>
concept Mask = Expression<X> && requires { requires std::remove_cvref_t<X>::gives_mask; };

template <class... X>
concept AllOperands = (OperandLike<X> && ...) && (OwnElements<X> || ...);

}  // namespace detail

// e^x, 2 ULP; 0 where that is below 2^−125 (double: 2^−1021), ∞ where it is above the largest.
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto exp(const X& x) noexcept {
    return detail::operation(detail::Exp{}, x);
}
// The same bits for x ≤ 128 ln 2 (double: 1024 ln 2), of no use above; two operations less.
template <detail::Elements X>
[[gnu::always_inline]] constexpr auto exp_finite(const X& x) noexcept {
    return detail::operation(detail::ExpFinite{}, x);
}
// 2^x as exp_finite, for x ≤ 128 (double: 1024).
template <detail::Elements X>
[[gnu::always_inline]] constexpr auto exp2_finite(const X& x) noexcept {
    return detail::operation(detail::Exp2Finite{}, x);
}
// ln x, 1 ULP; −∞ at 0, NaN below.
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto log(const X& x) noexcept {
    return detail::operation(detail::Log{}, x);
}
// σ(x) = 1/(1 + e^−x) and x σ(x), 3 ULP; 0 and −0 from where e^−x overflows down to −∞.
template <detail::Elements X>
[[gnu::always_inline]] constexpr auto sigmoid(const X& x) noexcept {
    return detail::operation(detail::Sigmoid{}, x);
}
template <detail::Elements X>
[[gnu::always_inline]] constexpr auto silu(const X& x) noexcept {
    return detail::operation(detail::Silu{}, x);
}
// ln(1 + e^x), 2 ULP. softplus(−x) = −ln σ(x).
template <detail::Elements X>
[[gnu::always_inline]] constexpr auto softplus(const X& x) noexcept {
    return detail::operation(detail::Softplus{}, x);
}
// x Φ(x), the exact form. Error: 4 ULP of |x|, in double 32; where x < 0 the result is much smaller
// than that.
template <detail::Elements X>
[[gnu::always_inline]] constexpr auto gelu(const X& x) noexcept {
    return detail::operation(detail::Gelu{}, x);
}
// tanh x, 2 ULP.
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto tanh(const X& x) noexcept {
    return detail::operation(detail::Tanh{}, x);
}
// √x, 0.5 ULP; and 1/√x, 1.5 ULP.
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto sqrt(const X& x) noexcept {
    return detail::operation(detail::Sqrt{}, x);
}
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto rsqrt(const X& x) noexcept {
    return detail::operation(detail::Rsqrt{}, x);
}
// |x|, exact; and x², 0.5 ULP.
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto abs(const X& x) noexcept {
    return detail::operation(detail::Abs{}, x);
}
template <detail::OwnElements X>
[[gnu::always_inline]] constexpr auto square(const X& x) noexcept {
    return detail::operation(detail::Square{}, x);
}
// The smaller and the larger of a and b, exact; a where they are equal or one is NaN.
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto min(const A& a, const B& b) noexcept {
    return detail::operation(detail::Min{}, a, b);
}
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] constexpr auto max(const A& a, const B& b) noexcept {
    return detail::operation(detail::Max{}, a, b);
}
// a b + c, rounded once where the instruction set has that: 0.5 ULP.
template <class A, class B, class C>
    requires detail::AllOperands<A, B, C>
[[gnu::always_inline]] constexpr auto fma(const A& a, const B& b, const C& c) noexcept {
    return detail::operation(detail::MultiplyAdd{}, a, b, c);
}
// a where the comparison holds, b elsewhere. Both are computed.
template <class M, class A, class B>
    requires(detail::OperandLike<M> && detail::OperandLike<A> && detail::OperandLike<B>)
[[gnu::always_inline]] constexpr auto select(const M& mask, const A& a, const B& b) noexcept {
    static_assert(
        detail::Mask<M>,
        "hydralm: select: the first argument must be a comparison; write select(x > 0, a, "
        "b)");
    return detail::operation(detail::Select{}, mask, a, b);
}
// f(x, …) element by element. f takes and returns batches: [](auto a, auto b) { return a * b + a;
// }. It also runs on zeros behind the end of a row, where its result is dropped.
template <class F, class... X>
    requires(!detail::OperandLike<F> && detail::AllOperands<X...>)
[[gnu::always_inline]] constexpr auto map(const F& f, const X&... x) noexcept {
    return detail::operation(detail::Mapped<F>{{}, f}, x...);
}

}  // namespace HYDRALM_NAMESPACE
