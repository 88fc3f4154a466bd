// An owning, 64-byte aligned, zero-initialised array of trivial elements whose size never changes.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Copies are deep; a moved-from buffer is empty. Allocation failure throws std::bad_alloc.
template <class T>
    requires std::is_trivially_copyable_v<T>
class AlignedBuffer {
public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(Index size) : data_(allocate(size)), size_(size) {
        if (size > 0)
            std::memset(static_cast<void*>(data_.get()), 0,
                        static_cast<std::size_t>(size) * sizeof(T));
    }
    AlignedBuffer(const AlignedBuffer& other) : data_(allocate(other.size_)), size_(other.size_) {
        std::copy_n(other.data(), size_, data());
    }
    AlignedBuffer(AlignedBuffer&& other) noexcept
        : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
    AlignedBuffer& operator=(AlignedBuffer other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~AlignedBuffer() = default;

    T* data() noexcept { return data_.get(); }
    const T* data() const noexcept { return data_.get(); }
    Index size() const noexcept { return size_; }
    T& operator[](Index i) noexcept { return data_.get()[i]; }
    const T& operator[](Index i) const noexcept { return data_.get()[i]; }
    T* begin() noexcept { return data(); }
    T* end() noexcept { return data() + size_; }
    const T* begin() const noexcept { return data(); }
    const T* end() const noexcept { return data() + size_; }
    std::span<T> span() noexcept { return {data(), static_cast<std::size_t>(size_)}; }
    std::span<const T> span() const noexcept { return {data(), static_cast<std::size_t>(size_)}; }

private:
    struct Free {
        void operator()(T* p) const noexcept {
            ::operator delete(static_cast<void*>(p), std::align_val_t{alignment});
        }
    };

    static T* allocate(Index size) {
        if (size <= 0) return nullptr;
        if (static_cast<std::size_t>(size) >
            std::numeric_limits<std::size_t>::max() / (2 * sizeof(T)))
            raise(std::bad_alloc());
        return static_cast<T*>(::operator new(static_cast<std::size_t>(size) * sizeof(T),
                                              std::align_val_t{alignment}));
    }

    std::unique_ptr<T, Free> data_;
    Index size_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
