// What a tokenizer is, and the simplest: ByteTokenizer, text as the bytes it is made of, id = byte.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// What text and ids are for each other. encode: the ids of a text. text: the bytes of one id, as
// long as the tokenizer lives, none for an id that is no text; decode: those of many. They need not
// be whole characters: Utf8Stream makes UTF-8 of them. vocab_size: no id is as large.
template <class T>
concept Tokenizer = requires(const T& tokenizer, std::string_view text,
                             std::span<const token_id> ids, token_id id) {
    { tokenizer.vocab_size() } -> std::same_as<Index>;
    { tokenizer.encode(text) } -> std::same_as<std::vector<token_id>>;
    { tokenizer.decode(ids) } -> std::same_as<std::string>;
    { tokenizer.text(id) } -> std::same_as<std::string_view>;
};

// Any text is representable, and encode then decode returns it. Ids from 256 on are a model's
// special tokens: encode makes none, decode passes over them, for they have no text. What decode
// returns is bytes; Utf8Stream makes UTF-8 of them.
class ByteTokenizer {
public:
    static constexpr Index bytes = 256;

    // Throws Error for a vocabulary too small to hold every byte.
    explicit ByteTokenizer(Index vocab_size = bytes) : vocab_size_(vocab_size) {
        if (vocab_size < bytes)
            raise({.field = "vocab_size",
                   .expected = "at least 256, an id for every byte",
                   .found = std::to_string(vocab_size),
                   .fix = "give ids instead of text, or a larger vocabulary"});
    }

    Index vocab_size() const noexcept { return vocab_size_; }
    // Whether an id stands for a byte of text.
    static constexpr bool is_byte(token_id id) noexcept { return id >= 0 && id < bytes; }

    // The byte of an id; none for a special token.
    std::string_view text(token_id id) const noexcept {
        static constexpr auto every_byte = [] {
            std::array<char, bytes> all{};
            for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
            return all;
        }();
        return {every_byte.data() + (is_byte(id) ? id : 0), is_byte(id) ? std::size_t{1} : 0};
    }

    // One id per byte. Allocates the result.
    std::vector<token_id> encode(std::string_view text) const {
        std::vector<token_id> ids(text.size());
        encode(text, ids);
        return ids;
    }

    // Writes one id per byte to the front of ids, returns how many. Throws Error when ids is too
    // short. No allocation.
    Index encode(std::string_view text, std::span<token_id> ids) const {
        if (ids.size() < text.size())
            raise({.field = "ids",
                   .expected = "room for " + std::to_string(text.size()) + " ids",
                   .found = std::to_string(ids.size()),
                   .fix = "encode in pieces or pass a longer span"});
        std::transform(text.begin(), text.end(), ids.begin(),
                       [](char c) { return static_cast<token_id>(static_cast<unsigned char>(c)); });
        return static_cast<Index>(text.size());
    }

    // The bytes of ids, special tokens left out. Throws Error for an id outside [0, V). Allocates
    // the result.
    std::string decode(std::span<const token_id> ids) const {
        std::string decoded;
        decoded.reserve(ids.size());
        for (std::size_t i = 0; i < ids.size(); ++i) {
            if (ids[i] < 0 || ids[i] >= vocab_size_)
                raise({.field = "token " + std::to_string(i),
                       .expected = "an id in [0, " + std::to_string(vocab_size_) + ")",
                       .found = std::to_string(ids[i]),
                       .fix = "decode with the vocabulary that made the ids"});
            decoded += text(ids[i]);
        }
        return decoded;
    }

private:
    Index vocab_size_;
};

}  // namespace HYDRALM_NAMESPACE
