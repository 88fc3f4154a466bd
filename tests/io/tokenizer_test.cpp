// ByteTokenizer: every byte is an id and comes back.
#include "hydralm/io/tokenizer.hpp"

#include <array>
#include <string>
#include <vector>

#include "support/catch.hpp"

using hydralm::ByteTokenizer;
using hydralm::token_id;

TEST_CASE("tokenizer: all bytes, there and back") {
    std::string text;
    for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
    const ByteTokenizer tokenizer;
    const auto ids = tokenizer.encode(text);
    REQUIRE(ids.size() == 256);
    for (int i = 0; i < 256; ++i) CHECK(ids[static_cast<std::size_t>(i)] == i);
    CHECK(tokenizer.decode(ids) == text);
    CHECK(tokenizer.encode("").empty());
    CHECK(tokenizer.decode({}).empty());
}

TEST_CASE("tokenizer: into a span") {
    const ByteTokenizer tokenizer(300);
    std::array<token_id, 4> ids{-1, -1, -1, -1};
    CHECK(tokenizer.encode("\xFF"
                           "ab",
                           ids) == 3);
    CHECK(ids == std::array<token_id, 4>{255, 'a', 'b', -1});
    CHECK_THROWS_WITH(tokenizer.encode("abcde", ids),
                      containing("expected room for 5 ids, found 4"));
}

TEST_CASE("tokenizer: special tokens have no text, foreign ids are refused") {
    const ByteTokenizer tokenizer(300);
    CHECK(tokenizer.decode(std::vector<token_id>{'a', 256, 299, 'b'}) == "ab");
    CHECK_THROWS_WITH(tokenizer.decode(std::vector<token_id>{'a', 300}),
                      containing("token 1: expected an id in [0, 300)"));
    CHECK_THROWS_AS(tokenizer.decode(std::vector<token_id>{-1}), hydralm::Error);
    CHECK_THROWS_WITH(ByteTokenizer(255), containing("vocab_size: expected at least 256"));
}

TEST_CASE("tokenizer: the bytes of one id") {
    const ByteTokenizer tokenizer(300);
    for (int i = 0; i < 256; ++i) CHECK(tokenizer.text(i) == std::string(1, static_cast<char>(i)));
    CHECK(tokenizer.text(256).empty());
    CHECK(tokenizer.text(-1).empty());
}
