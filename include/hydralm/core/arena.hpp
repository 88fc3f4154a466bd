// Arena: scratch memory for one computation. Blocks are taken in order and given back together.
//
// The bytes are the caller's. Sizes are known before the work starts (a module's scratch_bytes, a
// model's workspace_bytes), so running out is a programming error, and terminates with a message
// instead of throwing through noexcept kernels.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <span>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Bytes that count elements of T occupy in an Arena.
template <class T>
constexpr Index arena_bytes(Index count) noexcept {
    return round_up(count * static_cast<Index>(sizeof(T)), static_cast<Index>(alignment));
}

class Arena {
public:
    Arena() = default;
    // bytes: aligned to hydralm::alignment.
    explicit Arena(std::span<std::byte> bytes) noexcept
        : begin_(bytes.data()), capacity_(static_cast<Index>(bytes.size())) {}

    // count uninitialised elements of T, aligned to hydralm::alignment.
    template <class T>
    T* take(Index count) noexcept {
        const Index offset = used_;
        used_ += arena_bytes<T>(count);
        if (used_ > capacity_) {
            std::fprintf(stderr,
                         "hydralm: workspace: expected at least %td bytes, found %td; "
                         "give what scratch_bytes or workspace_bytes says\n",
                         used_, capacity_);
            std::abort();
        }
        return reinterpret_cast<T*>(begin_ + offset);
    }

    Index used() const noexcept { return used_; }
    Index capacity() const noexcept { return capacity_; }
    Index left() const noexcept { return capacity_ - used_; }

    // Gives back on destruction whatever was taken since construction.
    class Scope {
    public:
        explicit Scope(Arena& arena) noexcept : arena_(arena), mark_(arena.used_) {}
        ~Scope() { arena_.used_ = mark_; }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        Arena& arena_;
        Index mark_;
    };

private:
    std::byte* begin_ = nullptr;
    Index capacity_ = 0;
    Index used_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
