// A place in a row, and the batches that stand there: loads, stores and operands bound to a row.
#pragma once

#include <array>
#include <type_traits>

#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE::detail {

// Where a batch lies in a row: lanes elements from column, or the first count of them.
struct Whole {
    Index column;
};
struct Part {
    Index column, count;
};

template <Real T>
[[gnu::always_inline]] inline simd::Batch<T> load(const T* p, Whole at) noexcept {
    return simd::load<T>(p + at.column);
}
template <Real T>
[[gnu::always_inline]] inline simd::Batch<T> load(const T* p, Part at) noexcept {
    return simd::load_partial<T>(p + at.column, at.count);
}
template <Real T>
[[gnu::always_inline]] inline void store(T* p, const simd::Batch<T>& x, Whole at) noexcept {
    simd::store<T>(p + at.column, x);
}
template <Real T>
[[gnu::always_inline]] inline void store(T* p, const simd::Batch<T>& x, Part at) noexcept {
    simd::store_partial<T>(p + at.column, x, at.count);
}

// Elements a fixed distance apart.
template <class T>
struct StridedPointer {
    T* p;
    Index stride;
};
template <Real T>
using Lanes = std::array<T, static_cast<std::size_t>(simd::lanes<T>)>;

template <Real T>
constexpr Index count_of(Whole) noexcept {
    return simd::lanes<T>;
}
template <Real T>
constexpr Index count_of(Part at) noexcept {
    return at.count;
}
template <class T, class At>
simd::Batch<std::remove_const_t<T>> load(StridedPointer<T> from, At at) noexcept {
    using Scalar = std::remove_const_t<T>;
    alignas(alignment) Lanes<Scalar> buffer{};
    for (Index i = 0; i < count_of<Scalar>(at); ++i)
        buffer[static_cast<std::size_t>(i)] = from.p[(at.column + i) * from.stride];
    return simd::load<Scalar>(buffer.data());
}
template <Real T, class At>
void store(StridedPointer<T> to, const simd::Batch<T>& x, At at) noexcept {
    alignas(alignment) Lanes<T> buffer;
    simd::store<T>(buffer.data(), x);
    for (Index i = 0; i < count_of<T>(at); ++i)
        to.p[(at.column + i) * to.stride] = buffer[static_cast<std::size_t>(i)];
}

// Operands bound to a row.
template <class Pointer>
struct BoundElements {
    Pointer p;
    template <class At>
    [[gnu::always_inline]] auto operator()(const At& at) const noexcept {
        return load(p, at);
    }
};
template <Real T>
struct BoundScalar {
    simd::Batch<T> value;
    template <class At>
    [[gnu::always_inline]] simd::Batch<T> operator()(const At&) const noexcept {
        return value;
    }
};

}  // namespace HYDRALM_NAMESPACE::detail
