// What a product does with its finished sums before they leave the registers.
//
// An epilogue is called once for every vector of adjacent outputs of a row and returns what is
// stored there:
//   Batch<T> operator()(const Batch<T>& sum, const T* y, Index column, Index count) const noexcept
// y: the outputs' present contents, column: index of the first, count ≤ lanes of them exist. Any
// such type will do.
#pragma once

#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

template <Real T>
simd::Batch<T> load_some(const T* p, Index count) noexcept {
    return count == simd::lanes<T> ? simd::load(p) : simd::load_partial(p, count);
}
template <Real T>
void store_some(T* p, const simd::Batch<T>& v, Index count) noexcept {
    if (count == simd::lanes<T>) simd::store<T>(p, v);
    else simd::store_partial<T>(p, v, count);
}

}  // namespace detail

// y = x·Wᵀ.
struct Assign {
    template <class Batch, Real T>
    Batch operator()(const Batch& sum, const T*, Index, Index) const noexcept {
        return sum;
    }
};

// y += x·Wᵀ, one addition after the sum is complete.
struct Add {
    template <class Batch, Real T>
    Batch operator()(const Batch& sum, const T* y, Index, Index count) const noexcept {
        return detail::load_some(y, count) + sum;
    }
};

// y = x·Wᵀ + bias. bias: [out].
template <Real T>
struct AddBias {
    const T* bias;
    simd::Batch<T> operator()(const simd::Batch<T>& sum, const T*, Index column,
                              Index count) const noexcept {
        return sum + detail::load_some(bias + column, count);
    }
};

}  // namespace HYDRALM_NAMESPACE::kernels
