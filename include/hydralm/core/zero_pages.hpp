// ZeroPages: a large array of zeros that takes memory where it is written.
#pragma once

#include <limits>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "hydralm/core/aligned_buffer.hpp"

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

namespace HYDRALM_NAMESPACE {

// An owning, 64-byte aligned array of trivial elements, zero at first, whose size never changes.
// Large ones are pages that the system gives when a thread first writes to them, in large pages
// where it has them: writing costs a tenth of what pages of 4 KiB cost, and reading front to back
// is faster; what is never written takes no memory. A moved-from array is empty. Throws
// std::bad_alloc.
template <class T>
    requires std::is_trivially_copyable_v<T>
class ZeroPages {
public:
    ZeroPages() = default;
    explicit ZeroPages(Index size) : size_(size) {
#if defined(MAP_ANONYMOUS)
        if (!on_heap && size >= large) {
            if (size > most) raise(std::bad_alloc());
            void* const pages = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (pages == MAP_FAILED) raise(std::bad_alloc());
#if defined(MADV_HUGEPAGE)
            ::madvise(pages, bytes(), MADV_HUGEPAGE);
#endif
            data_ = static_cast<T*>(pages);
            return;
        }
#endif
        small_ = AlignedBuffer<T>(size);
        data_ = small_.data();
    }
    ZeroPages(ZeroPages&& other) noexcept
        : small_(std::move(other.small_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    ZeroPages& operator=(ZeroPages&& other) noexcept {
        ZeroPages taken(std::move(other));  // dies with what this held
        std::swap(small_, taken.small_);
        std::swap(data_, taken.data_);
        std::swap(size_, taken.size_);
        return *this;
    }
    ~ZeroPages() {
#if defined(MAP_ANONYMOUS)
        if (data_ != small_.data()) ::munmap(data_, bytes());
#endif
    }

    T* data() noexcept { return data_; }
    const T* data() const noexcept { return data_; }
    Index size() const noexcept { return size_; }
    std::span<T> span() noexcept { return {data_, static_cast<std::size_t>(size_)}; }

private:
    // AddressSanitizer guards what is on the heap alone, so all is there for it.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    static constexpr bool on_heap = true;
#else
    static constexpr bool on_heap = false;
#endif
#elif defined(__SANITIZE_ADDRESS__)
    static constexpr bool on_heap = true;
#else
    static constexpr bool on_heap = false;
#endif
    static constexpr Index large = (Index{4} << 20) / static_cast<Index>(sizeof(T));
    static constexpr Index most = std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T));

    std::size_t bytes() const noexcept { return static_cast<std::size_t>(size_) * sizeof(T); }

    AlignedBuffer<T> small_;  // what is not large
    T* data_ = nullptr;
    Index size_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
