// The message of an Error: its parts in order, on one line, of bounded length.
#include "hydralm/core/error.hpp"

#include "support/catch.hpp"

using hydralm::Error;

TEST_CASE("a message has the parts that are given", "[core]") {
    const auto text = [](hydralm::ErrorDetail detail) { return std::string(Error(detail).what()); };
    CHECK(text({.file = "f", .field = "x", .expected = "1", .found = "2", .fix = "count"}) ==
          "hydralm: f: x: expected 1, found 2; count");
    CHECK(text({.field = "x", .found = "2"}) == "hydralm: x: found 2");
    CHECK(text({.expected = "1", .fix = "count"}) == "hydralm: expected 1; count");
    CHECK(text({}) == "hydralm");
}

TEST_CASE("what comes from a file cannot break the line, nor fill the screen", "[core]") {
    const Error error(
        {.file = "a\nb", .field = "\x1b[2J\x7f\t\u00e9", .found = std::string(1 << 20, 'x')});
    CHECK(std::string(error.what()) ==
          "hydralm: a?b: ?[2J??\u00e9: found " + std::string(4096, 'x') + "...");
    CHECK(error.detail().file == "a\nb");
    CHECK(error.detail().found.size() == 1 << 20);
}
