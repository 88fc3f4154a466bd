// BpeVocabulary: the tables of a BPE tokenizer, from its parts, checked.
#pragma once

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/io/tokenizer/byte_spelling.hpp"
#include "hydralm/io/tokenizer/merges.hpp"
#include "hydralm/io/tokenizer/token_table.hpp"
#include "hydralm/io/tokenizer/tokenizer_parts.hpp"

namespace HYDRALM_NAMESPACE::detail {

class BpeVocabulary {
public:
    // Throws Error for ids that are taken twice or beyond TokenizerParts::most_ids, texts given
    // twice, a byte without a token, and merges that do not make a token of two others.
    explicit BpeVocabulary(const TokenizerParts& parts)
        : file_(parts.file), by_bytes_(parts.symbols == TokenizerParts::Symbols::bytes) {
        const auto ids = static_cast<std::size_t>(largest_id(parts)) + 1;
        tokens_ = TokenTable(ids, parts.vocabulary.size() + parts.added.size());
        special_.resize(ids);
        bytes_.fill(-1);
        for (const auto& token : parts.vocabulary) add(token.text, token.id, field_of(token));
        expect_every_byte();
        std::set<std::string_view> once;
        for (std::size_t i = 0; i < parts.added.size(); ++i) {
            if (!once.insert(parts.added[i].text).second)
                fail(field_of(i), "each text once", in_quotes(parts.added[i].text) + " twice");
            add_added(parts.added[i], field_of(i));
        }
        merges_ = MergeTable(parts.merges.size());
        for (std::size_t i = 0; i < parts.merges.size(); ++i)
            add_merge(parts.merges[i].first, parts.merges[i].second, i);
        for (token_id id = 0; id < tokens_.size(); ++id) {
            const std::string_view text = tokens_.text(id);
            for (std::size_t i = text.find(' ', 1); i < text.size(); i = text.find(' ', i + 1))
                if (text[i - 1] != ' ' && tokens_.find(text) == id) parts_before_spaces_ = false;
        }
    }

    const TokenTable& tokens() const noexcept { return tokens_; }
    const MergeTable& merges() const noexcept { return merges_; }
    token_id of_byte(char byte) const noexcept { return bytes_[static_cast<unsigned char>(byte)]; }
    bool is_special(token_id id) const noexcept {
        return id >= 0 && id < tokens_.size() && special_[static_cast<std::size_t>(id)];
    }
    // No token has a space behind something else, so that none stands on both sides of such a
    // place.
    bool parts_before_spaces() const noexcept { return parts_before_spaces_; }

private:
    static std::string in_quotes(std::string_view text) { return '"' + std::string(text) + '"'; }
    static std::string field_of(const TokenizerParts::Token& token) {
        return "model.vocab " + in_quotes(token.text);
    }
    static std::string field_of(std::size_t added) {
        return "added_tokens[" + std::to_string(added) + "]";
    }
    [[noreturn]] void fail(std::string field, std::string expected, std::string found) const {
        raise({.file = file_,
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = "write the file again with the tool that made it"});
    }

    token_id largest_id(const TokenizerParts& parts) const {
        token_id largest = -1;
        const auto take = [&](token_id id, const std::string& field) {
            if (id < 0 || id >= TokenizerParts::most_ids)
                fail(field, "an id in [0, " + std::to_string(TokenizerParts::most_ids) + ")",
                     std::to_string(id));
            largest = std::max(largest, id);
        };
        for (const auto& token : parts.vocabulary) take(token.id, field_of(token));
        for (std::size_t i = 0; i < parts.added.size(); ++i) take(parts.added[i].id, field_of(i));
        return largest;
    }

    // What a spelling is the text of, and whether merging may come to it. By bytes, what spells
    // none is no piece; of characters, what has a space that is not spelled.
    struct Meaning {
        std::string text;
        bool is_piece;
    };
    Meaning meaning_of(const std::string& spelling) const {
        if (!by_bytes_) return {with_spaces(spelling), spelling.find(' ') == spelling.npos};
        auto bytes = spelled(spelling);
        if (!bytes) return {spelling, false};
        return {std::move(*bytes), true};
    }

    void add(const std::string& spelling, token_id id, const std::string& field) {
        if (!tokens_.text(id).empty())
            fail(field, "an id of its own", std::to_string(id) + ", which is taken");
        if (const int byte = by_bytes_ ? -1 : byte_in_brackets(spelling); byte >= 0) {
            tokens_.set(id, std::string(1, static_cast<char>(byte)));
            bytes_[static_cast<std::size_t>(byte)] = id;
            return;
        }
        const auto [text, is_piece] = meaning_of(spelling);
        tokens_.set(id, text);
        if (text.empty() || !is_piece) return;
        if (tokens_.insert(id) != id) fail(field, "each text once", "it twice");
        if (by_bytes_ && text.size() == 1) bytes_[static_cast<unsigned char>(text[0])] = id;
    }

    // One of the vocabulary, or with an id of its own; then no piece merges to it.
    void add_added(const TokenizerParts::AddedToken& token, const std::string& field) {
        if (token.text.empty()) fail(field + ".content", "at least one byte", "none");
        const auto [text, is_piece] = meaning_of(token.text);
        const token_id known = is_piece ? tokens_.find(text) : -1;
        if (known >= 0 && known != token.id)
            fail(field + ".id", std::to_string(known) + ", as model.vocab has it",
                 std::to_string(token.id));
        if (tokens_.text(token.id).empty()) tokens_.set(token.id, text);
        else if (tokens_.text(token.id) != text)
            fail(field, "an id of its own", std::to_string(token.id) + ", which is taken");
        special_[static_cast<std::size_t>(token.id)] = token.special;
    }

    void expect_every_byte() const {
        for (std::size_t byte = 0; byte < bytes_.size(); ++byte)
            if (bytes_[byte] < 0)
                fail("model.vocab", "a token for each byte",
                     "none for byte " + std::to_string(byte));
    }

    void add_merge(const std::string& left, const std::string& right, std::size_t rank) {
        const auto piece = [&](const std::string& spelling) {
            const auto [text, is_piece] = meaning_of(spelling);
            return is_piece ? tokens_.find(text) : -1;
        };
        const token_id first = piece(left), second = piece(right), product = piece(left + right);
        if (first < 0 || second < 0 || product < 0)
            fail("model.merges[" + std::to_string(rank) + "]",
                 "two tokens of model.vocab that make a third",
                 in_quotes(left) + " and " + in_quotes(right));
        merges_.set(first, second, {static_cast<std::uint32_t>(rank), product});
    }

    std::string file_;
    bool by_bytes_;
    TokenTable tokens_;  // what a piece can merge to is found by its text
    MergeTable merges_;
    std::array<token_id, 256> bytes_;  // the token of each byte
    std::vector<bool> special_;        // whether an id is
    bool parts_before_spaces_ = true;
};

}  // namespace HYDRALM_NAMESPACE::detail
