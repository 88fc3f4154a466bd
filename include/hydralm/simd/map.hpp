// map: an element-wise expression over spans as one loop; sums, dot and maximum beside it.
#pragma once

#include <limits>

#include "hydralm/simd/activation.hpp"
#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE::simd {

// out[i] = f(in_0[i], in_1[i], …) for i in [0, n). f takes and returns batches; it is also run on
// the zero-padded tail, so it must be defined at 0. out may be one of the inputs. No allocation.
// One load per input and one store per element.
//   simd::map(n, out, [](auto g, auto u) { return silu(g) * u; }, gate, up);
template <Real T, class F, class... In>
void map(Index n, T* out, const F& f, const In*... in) noexcept {
    Index i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store<T>(out + i, f(load(in + i)...));
    if (i < n) store_partial<T>(out + i, f(load_partial(in + i, n - i)...), n - i);
}

// Σ f(in_0[i], …), in a fixed order: four partial batches, then lanes, whatever the alignment. f(0,
// …) must be 0.
template <Real T, class F, class... In>
T sum(Index n, const F& f, const In*... in) noexcept {
    Batch<T> s0(T(0)), s1(T(0)), s2(T(0)), s3(T(0));
    Index i = 0;
    for (; i + 4 * lanes<T> <= n; i += 4 * lanes<T>) {
        s0 = s0 + f(load(in + i)...);
        s1 = s1 + f(load(in + i + lanes<T>)...);
        s2 = s2 + f(load(in + i + 2 * lanes<T>)...);
        s3 = s3 + f(load(in + i + 3 * lanes<T>)...);
    }
    for (; i + lanes<T> <= n; i += lanes<T>) s0 = s0 + f(load(in + i)...);
    if (i < n) s1 = s1 + f(load_partial(in + i, n - i)...);
    return reduce_add<T>((s0 + s1) + (s2 + s3));
}

// out[i] = f(in[i], …) as map, and Σ out[i], in an order of its own that depends on n only. f may
// have any value at 0. Cost: as map.
template <Real T, class F, class... In>
T map_sum(Index n, T* out, const F& f, const In*... in) noexcept {
    Batch<T> s0(T(0)), s1(T(0));
    Index i = 0;
    for (; i + 2 * lanes<T> <= n; i += 2 * lanes<T>) {
        const Batch<T> y0 = f(load(in + i)...), y1 = f(load(in + i + lanes<T>)...);
        store<T>(out + i, y0);
        store<T>(out + i + lanes<T>, y1);
        s0 = s0 + y0;
        s1 = s1 + y1;
    }
    if (i + lanes<T> <= n) {
        const Batch<T> y = f(load(in + i)...);
        store<T>(out + i, y);
        s0 = s0 + y;
        i += lanes<T>;
    }
    if (i < n) {
        store_partial<T>(out + i, f(load_partial(in + i, n - i)...), n - i);
        s1 = s1 + load_partial(out + i, n - i);
    }
    return reduce_add<T>(s0 + s1);
}

// The largest of n values; NaN is passed over; −∞ where there is nothing else.
template <Real T>
T maximum(Index n, const T* a) noexcept {
    const auto larger = [](const Batch<T>& x, const Batch<T>& m) {
        return simd::select(x > m, x, m);
    };
    const Batch<T> lowest(-std::numeric_limits<T>::infinity());
    Batch<T> m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
    Index i = 0;
    for (; i + 4 * lanes<T> <= n; i += 4 * lanes<T>) {
        m0 = larger(load(a + i), m0);
        m1 = larger(load(a + i + lanes<T>), m1);
        m2 = larger(load(a + i + 2 * lanes<T>), m2);
        m3 = larger(load(a + i + 3 * lanes<T>), m3);
    }
    for (; i + lanes<T> <= n; i += lanes<T>) m0 = larger(load(a + i), m0);
    T largest = reduce_max<T>(larger(larger(m0, m1), larger(m2, m3)));
    for (; i < n; ++i) largest = a[i] > largest ? a[i] : largest;
    return largest;
}

// Σ a[i]·b[i] and Σ a[i]².
template <Real T>
T dot(Index n, const T* a, const T* b) noexcept {
    return sum<T>(n, [](auto x, auto y) { return x * y; }, a, b);
}
template <Real T>
T squared_norm(Index n, const T* a) noexcept {
    return sum<T>(n, [](auto x) { return x * x; }, a);
}

}  // namespace HYDRALM_NAMESPACE::simd
