// Pages of banks that run out.
#pragma once

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/state/bank_policy.hpp"

namespace hydralm::test {

// The heap, until `left` pages were taken.
struct FewPages : PageSource {
    Index left = 0;
    std::shared_ptr<std::byte> take(Index bytes) override {
        if (left-- <= 0) throw std::bad_alloc();
        const auto buffer = std::make_shared<AlignedBuffer<std::byte>>(bytes);
        return {buffer, buffer->data()};
    }
    void expect(Index) noexcept override {}
    Index budget() const noexcept override { return Index{1} << 40; }
};

}  // namespace hydralm::test
