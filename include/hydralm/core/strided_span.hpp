// StridedSpan: one number per token, a fixed distance apart (a column of a row-major matrix),
// non-owning.
#pragma once

#include <type_traits>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Element i of size lies at data[i·stride]. A span of T converts to a span of const T.
template <class T>
class StridedSpan {
public:
    constexpr StridedSpan() noexcept = default;
    constexpr StridedSpan(T* data, Index size, Index stride = 1) noexcept
        : data_(data), size_(size), stride_(stride) {}
    template <class U>
        requires std::is_convertible_v<U (*)[], T (*)[]>
    constexpr StridedSpan(const StridedSpan<U>& other) noexcept
        : StridedSpan(other.data(), other.size(), other.stride()) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr Index size() const noexcept { return size_; }
    constexpr Index stride() const noexcept { return stride_; }
    constexpr T& operator[](Index i) const noexcept { return data_[i * stride_]; }

    // Elements [first, first + count).
    constexpr StridedSpan subspan(Index first, Index count) const noexcept {
        return {data_ + first * stride_, count, stride_};
    }

private:
    T* data_ = nullptr;
    Index size_ = 0;
    Index stride_ = 1;
};

}  // namespace HYDRALM_NAMESPACE
