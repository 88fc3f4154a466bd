// WeightMemory: the memory a model's weights lie in, its own or the caller's. Moving leaves none.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"

namespace HYDRALM_NAMESPACE {

class WeightMemory {
public:
    // Zeros, of its own. Throws std::bad_alloc.
    explicit WeightMemory(Index bytes)
        : owned_(std::max(bytes, Index{alignment})), data_(owned_.data()) {}
    // The caller's, as it is.
    explicit WeightMemory(std::span<std::byte> memory) noexcept : data_(memory.data()) {}
    WeightMemory(WeightMemory&& other) noexcept
        : owned_(std::move(other.owned_)), data_(std::exchange(other.data_, nullptr)) {}
    WeightMemory& operator=(WeightMemory&& other) noexcept {
        owned_ = std::move(other.owned_);
        data_ = std::exchange(other.data_, nullptr);
        return *this;
    }
    ~WeightMemory() = default;

    std::byte* data() const noexcept { return data_; }
    // Throws Error when it was moved from: views into it are another model's.
    void expect() const {
        if (data_ == nullptr)
            raise({.field = "model",
                   .expected = "one with weights",
                   .found = "one that was moved from",
                   .fix = "use the model that has its weights now, or assign one to it"});
    }

private:
    AlignedBuffer<std::byte> owned_;
    std::byte* data_;
};

}  // namespace HYDRALM_NAMESPACE
