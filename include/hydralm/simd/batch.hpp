// The door to xsimd: batches of the widest instruction set of this translation unit, their loads,
// tails and reductions.
//
// No file outside simd/ names xsimd. Loads and stores are unaligned unless their name says
// otherwise. A tail of fewer than lanes<T> elements is read and written through load_partial and
// store_partial, which touch no byte outside it.
#pragma once

#include <array>
#include <cstring>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::simd {

template <Real T>
using Batch = xsimd::batch<T, xsimd::default_arch>;

template <Real T>
inline constexpr Index lanes = static_cast<Index>(Batch<T>::size);

// Of a vector register, whatever it holds.
inline constexpr Index vector_bytes = lanes<float> * Index{sizeof(float)};

// Vector registers of the instruction set: what a register-tiled kernel may count on.
inline constexpr int registers =
#if defined(__AVX512F__) || defined(__aarch64__)
    32;
#else
    16;
#endif

// Name of the instruction set in use, for reports.
inline const char* architecture() noexcept { return xsimd::default_arch::name(); }

template <Real T>
Batch<T> broadcast(T value) noexcept {
    return Batch<T>(value);
}

// Inlined where an array is shorter than a batch, g++ 12 warns of these, though they stand behind a
// comparison of its length.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif
template <Real T>
Batch<T> load(const T* p) noexcept {
    return Batch<T>::load_unaligned(p);
}

template <Real T>
void store(T* p, const Batch<T>& x) noexcept {
    x.store_unaligned(p);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

// The first n elements of p, zeros behind them. 0 ≤ n ≤ lanes<T>.
template <Real T>
Batch<T> load_partial(const T* p, Index n) noexcept {
    alignas(alignment) std::array<T, static_cast<std::size_t>(lanes<T>)> buffer{};
    std::memcpy(buffer.data(), p, static_cast<std::size_t>(n) * sizeof(T));
    return Batch<T>::load_aligned(buffer.data());
}

template <Real T>
void store_partial(T* p, const Batch<T>& x, Index n) noexcept {
    alignas(alignment) std::array<T, static_cast<std::size_t>(lanes<T>)> buffer;
    x.store_aligned(buffer.data());
    std::memcpy(p, buffer.data(), static_cast<std::size_t>(n) * sizeof(T));
}

namespace detail {

// To the nearest integers, ties to even. |x| < 2³¹.
[[gnu::always_inline]] inline auto nearest_integers(const Batch<float>& x) noexcept {
#if defined(__x86_64__) || defined(__aarch64__)
    return xsimd::nearbyint_as_int(x);
#else  // xsimd 8.1 has ties go away from 0 where there is no instruction
    return xsimd::to_int(xsimd::nearbyint(x));
#endif
}

}  // namespace detail

// To p[0, lanes<float>), rounded to nearest, ties to even. |x| < 2³¹.
inline void store_rounded(std::int32_t* p, const Batch<float>& x) noexcept {
    detail::nearest_integers(x).store_unaligned(p);
}

// a·b + c, one rounding where the instruction set has a fused form. The same operation for every
// caller, so that two kernels that promise the same bits may both use it.
template <Real T>
Batch<T> fma(const Batch<T>& a, const Batch<T>& b, const Batch<T>& c) noexcept {
#if defined(__AVX512F__)  // xsimd 8.1 has no fused form here
    if constexpr (sizeof(T) == 4) return _mm512_fmadd_ps(a, b, c);
    else return _mm512_fmadd_pd(a, b, c);
#else
    return xsimd::fma(a, b, c);
#endif
}

// The scalar fma with the rounding of the batch form above.
template <Real T>
T fma(T a, T b, T c) noexcept {
#if defined(__FMA__) || defined(__aarch64__)
    if constexpr (sizeof(T) == 4) return __builtin_fmaf(a, b, c);
    else return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

// a / b, exactly rounded: xsimd 8.1 multiplies floats of NEON by an estimate of 1 / b.
template <Real T>
[[gnu::always_inline]] inline Batch<T> divide(const Batch<T>& a, const Batch<T>& b) noexcept {
    using Register = typename Batch<T>::register_type;
    return Batch<T>(Register(Register(a) / Register(b)));
}

// Lane by lane, a where mask (a comparison of batches) holds, b elsewhere.
template <class Mask, class B>
[[gnu::always_inline]] inline B select(const Mask& mask, const B& a, const B& b) noexcept {
    return xsimd::select(mask, a, b);
}

// a where a > b, else b: b where one of them is NaN.
template <Real T>
[[gnu::always_inline]] inline Batch<T> max(const Batch<T>& a, const Batch<T>& b) noexcept {
#if defined(__x86_64__)  // the processor's own instruction
    return xsimd::max(a, b);
#else
    return select(a > b, a, b);
#endif
}
// a where a < b, else b: b where one of them is NaN.
template <Real T>
[[gnu::always_inline]] inline Batch<T> min(const Batch<T>& a, const Batch<T>& b) noexcept {
#if defined(__x86_64__)
    return xsimd::min(a, b);
#else
    return select(a < b, a, b);
#endif
}

namespace detail {

// Lane 0 is f over the first 2·Half lanes of x: halves are folded onto each other, so the order
// depends on the width only.
template <Index Half, Real T, class F>
[[gnu::always_inline]] inline Batch<T> fold_halves(const Batch<T>& x, const F& f) noexcept {
    if constexpr (Half == 0) {
        return x;
    } else {
        using Register = typename Batch<T>::register_type;
        const Register r = x;
        return [&]<Index... L>(std::integer_sequence<Index, L...>) __attribute__((always_inline)) {
            const Register other = __builtin_shufflevector(r, r, (L ^ Half)...);
            return fold_halves<Half / 2, T>(f(x, Batch<T>(other)), f);
        }(std::make_integer_sequence<Index, lanes<T>>{});
    }
}

template <Real T, class F>
[[gnu::always_inline]] inline T reduce(const Batch<T>& x, const F& f) noexcept {
    using Register = typename Batch<T>::register_type;
    const Register folded = fold_halves<lanes<T> / 2, T>(x, f);
    return folded[0];
}

}  // namespace detail

// Sum and maximum over the lanes, in an order fixed by the width.
template <Real T>
T reduce_add(const Batch<T>& x) noexcept {
    return detail::reduce<T>(x, [](const Batch<T>& a, const Batch<T>& b)
                                    __attribute__((always_inline)) { return a + b; });
}

template <Real T>
T reduce_max(const Batch<T>& x) noexcept {
    return detail::reduce<T>(x, [](const Batch<T>& a, const Batch<T>& b)
                                    __attribute__((always_inline)) { return max<T>(a, b); });
}

}  // namespace HYDRALM_NAMESPACE::simd
