// The message of an Error: its parts in order, on one line, of bounded length.
#include "hydralm/core/error.hpp"

#include <new>

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

TEST_CASE("a message is UTF-8 that stays on its line, cut between characters", "[core]") {
    const auto shown = [](const std::string& field) {
        return std::string(Error({.field = field}).what()).substr(9);
    };
    for (const std::string unseen :
         {"\n",     "\x7f",   "\xC2\x80", "\xC2\x9B",   "\xC2\x9F",   "\u00A0",    "\u00AD",
          "\u061C", "\u200B", "\u200D",   "\u200E",     "\u200F",     "\u2028",    "\u2029",
          "\u202A", "\u202E", "\u202F",   "\u2060",     "\u2066",     "\u2069",    "\u3000",
          "\uFE0F", "\uFEFF", "\uFFF9",   "\U0001D173", "\U000E0000", "\U000E0FFF"})
        CHECK(shown("a" + unseen + "b") == "a?b");
    CHECK(shown(std::string("a\0b", 3)) == "a?b");
    for (const std::string text :
         {" ~", "\u00A1", "\u061B", "\u061D", "\u1FFF", "\u2010", "\u2027", "\u2030", "\u205E",
          "\u2070", "\uD7FF", "\uFEFE", "\uFFFD", "\U0001F409", "\U0010FFFF"})
        CHECK(shown(text) == text);
    // Bytes that are no UTF-8, each of them; what follows is shown.
    CHECK(shown("\x80\xC3"
                "a\xE2\x82"
                "b\xED\xA0\x80\xF0\x9F\x90") == "??a??b??????");
    CHECK(shown("\xC0\x80\xE0\x9F\xBF\xF4\x90\x80\x80\xFF\u00e9\xE2") == "??????????\u00e9?");
    for (const std::string character : {"\u00e9", "\u20AC", "\U0001F409"}) {
        std::string text = "x";
        while (text.size() <= 4096) text += character;
        const std::size_t whole = 1 + 4095 / character.size() * character.size();
        CHECK(shown(text) == text.substr(0, whole) + "...");
    }
}

TEST_CASE("what attempt is told of, and what goes on", "[core]") {
    const auto refuse = [](const Error& error) { return error.detail().field; };
    const auto missing = []() -> std::string { hydralm::raise({.field = "x"}); };
    CHECK(hydralm::attempt([] { return std::string("whole"); }, refuse) == "whole");
    CHECK(hydralm::attempt(missing, refuse) == "x");
    CHECK_THROWS_AS(
        hydralm::attempt([]() -> std::string { hydralm::raise(std::bad_alloc()); }, refuse),
        std::bad_alloc);
    const auto again = [](const Error& error) -> std::string { hydralm::raise(error); };
    CHECK_THROWS_AS(hydralm::attempt(missing, again), Error);
    CHECK(hydralm::attempt<std::exception>(missing, [](const std::exception& any) {
              return std::string(any.what());
          }) == "hydralm: x");
}
