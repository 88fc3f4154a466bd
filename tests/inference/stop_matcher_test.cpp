// StopMatcher: against a search in the whole text, for every cut of it.
#include "hydralm/inference/stop_matcher.hpp"

#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/random.hpp"
#include "support/catch.hpp"

using hydralm::Index;
using hydralm::Random;
using hydralm::StopMatcher;

namespace {

// The text before the stop text that ends first, of those the longest.
std::string expected(const std::string& text, const std::vector<std::string>& stops) {
    for (std::size_t end = 1; end <= text.size(); ++end) {
        std::size_t longest = 0;
        for (const auto& stop : stops)
            if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0)
                longest = std::max(longest, stop.size());
        if (longest > 0) return text.substr(0, end - longest);
    }
    return text;
}

std::string run(StopMatcher& matcher, std::string_view text, std::size_t piece) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); i += piece) out += matcher.push(text.substr(i, piece));
    out += matcher.flush();
    return out;
}

}  // namespace

TEST_CASE("stops: passes on what cannot be a stop text, at once") {
    StopMatcher matcher({"END", "\n\n"});
    CHECK(matcher.push("abc") == "abc");
    CHECK(matcher.push("E").empty());
    CHECK(matcher.push("x") == "Ex");
    CHECK(matcher.push("EEN") == "E");
    CHECK(matcher.push("\n") == "EN");
    CHECK_FALSE(matcher.found());
    CHECK(matcher.push("\nmore").empty());
    CHECK(matcher.found());
    CHECK(matcher.stop() == 1);
    CHECK(matcher.push("more").empty());
    CHECK(matcher.flush().empty());
    matcher.reset();
    CHECK_FALSE(matcher.found());
    CHECK(matcher.push("aEN") == "a");
    CHECK(matcher.flush() == "EN");
    CHECK(matcher.push("D") == "D");
}

TEST_CASE("stops: none, one byte, nested and overlapping ones") {
    StopMatcher none;
    CHECK(none.push("anything") == "anything");
    CHECK(none.flush().empty());
    CHECK_FALSE(none.found());
    StopMatcher byte({"."});
    CHECK(byte.push("a.b") == "a");
    StopMatcher nested({"bc", "abcd"});  // bc ends first
    CHECK(nested.push("xab") == "x");
    CHECK(nested.push("c") == "a");
    CHECK(nested.stop() == 0);
    StopMatcher together({"b", "ab"});  // both end with b: the longest
    CHECK(together.push("xab") == "x");
    CHECK(together.stop() == 1);
    CHECK_THROWS_WITH(StopMatcher({"a", ""}),
                      containing("stop: expected a text of at least one byte"));
}

TEST_CASE("stops: random texts of few letters, any pieces") {
    Random random(7);
    const auto word = [&](std::uint64_t longest) {
        std::string s(1 + random.below(longest), 'a');
        for (char& c : s) c = static_cast<char>('a' + random.below(2));
        return s;
    };
    for (int trial = 0; trial < 3000; ++trial) {
        std::vector<std::string> stops;
        for (std::uint64_t n = random.below(4); n > 0; --n) stops.push_back(word(6));
        const std::string text = word(30);
        StopMatcher matcher(stops);
        for (const std::size_t piece : {1, 2, 3, 30}) {
            INFO("text " << text << " piece " << piece << " trial " << trial);
            CHECK(run(matcher, text, piece) == expected(text, stops));
            CHECK(matcher.found() == (expected(text, stops) != text));
            matcher.reset();
        }
    }
}
