// Arrays of zeros, small ones and those that are pages of the system.
#include "hydralm/core/zero_pages.hpp"

#include <cstdint>
#include <limits>
#include <new>
#include <utility>

#include "support/catch.hpp"

using namespace hydralm;

TEST_CASE("zero pages are zeros, aligned, and move", "[core]") {
    for (const Index size : {Index{0}, Index{1}, Index{4097}, Index{3} << 20}) {
        ZeroPages<float> array(size);
        REQUIRE(array.size() == size);
        REQUIRE(array.span().size() == static_cast<std::size_t>(size));
        CHECK(reinterpret_cast<std::uintptr_t>(array.data()) % alignment == 0);
        bool zero = true;
        for (float& x : array.span()) {
            zero = zero && x == 0;
            x = 3;
        }
        CHECK(zero);
        const float* const place = array.data();
        ZeroPages<float> moved(std::move(array));
        CHECK(moved.data() == place);
        CHECK(array.size() == 0);  // NOLINT(bugprone-use-after-move): empty, it says
        array = std::move(moved);
        CHECK(array.data() == place);
        CHECK(array.size() == size);
        if (size > 0) CHECK(array.span().back() == 3);
    }
    // Assigned to an array that holds something, whose memory goes at once.
    for (const Index before : {Index{7}, Index{3} << 20})
        for (const Index after : {Index{5}, Index{2} << 20}) {
            ZeroPages<float> target(before), source(after);
            const float* const place = source.data();
            target = std::move(source);
            CHECK(target.data() == place);
            CHECK(target.size() == after);
            CHECK(source.data() == nullptr);  // NOLINT(bugprone-use-after-move)
            CHECK(source.size() == 0);
        }
    CHECK_THROWS_AS(ZeroPages<float>(std::numeric_limits<Index>::max() / 2), std::bad_alloc);
}
