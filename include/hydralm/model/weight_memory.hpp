// WeightMemory: the memory a model's weights lie in, its own, the caller's, or storage that is only
// read. Moving leaves none.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "hydralm/core/error.hpp"
#include "hydralm/core/zero_pages.hpp"

namespace HYDRALM_NAMESPACE {

class WeightMemory {
public:
    // Zeros, of its own. Throws std::bad_alloc.
    explicit WeightMemory(Index bytes)
        : owned_(std::max(bytes, Index{alignment})),
          data_(owned_.data()),
          writable_(owned_.data()) {}
    // The caller's, as it is.
    explicit WeightMemory(std::span<std::byte> memory) noexcept
        : data_(memory.data()), writable_(memory.data()) {}
    // Static storage, as it is, for ever.
    explicit WeightMemory(std::span<const std::byte> memory) noexcept : data_(memory.data()) {}
    WeightMemory(WeightMemory&& other) noexcept
        : owned_(std::move(other.owned_)),
          data_(std::exchange(other.data_, nullptr)),
          writable_(std::exchange(other.writable_, nullptr)) {}
    WeightMemory& operator=(WeightMemory&& other) noexcept {
        owned_ = std::move(other.owned_);
        data_ = std::exchange(other.data_, nullptr);
        writable_ = std::exchange(other.writable_, nullptr);
        return *this;
    }
    ~WeightMemory() = default;

    const std::byte* data() const noexcept { return data_; }
    // Throws Error when it was moved from, or is only read.
    std::byte* to_write() const {
        expect();
        if (writable_ == nullptr)
            raise({.field = "model",
                   .expected = "one whose weights may be written",
                   .found = "weights embedded in the program",
                   .fix = "load the checkpoint into a model that has memory of its own"});
        return writable_;
    }
    // Throws Error when it was moved from: views into it are another model's.
    void expect() const {
        if (data_ == nullptr)
            raise({.field = "model",
                   .expected = "one with weights",
                   .found = "one that was moved from",
                   .fix = "use the model that has its weights now, or assign one to it"});
    }

private:
    ZeroPages<std::byte> owned_;
    const std::byte* data_;
    std::byte* writable_ = nullptr;
};

}  // namespace HYDRALM_NAMESPACE
