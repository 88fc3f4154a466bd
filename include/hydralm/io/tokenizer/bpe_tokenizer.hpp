// BpeTokenizer: text to the token ids of a published vocabulary, by merging neighbours.
//
// Two kinds: byte-level (GPT-2's, Qwen's), whose symbols are bytes and whose pieces a regular
// expression cuts; and of characters with byte fallback (SentencePiece's, Llama's), where a space
// is a character like others. Added tokens are cut out of the text as it is given: the leftmost
// first, of those the longest. The rest is normalised, cut into pieces, and in each piece the pair
// of neighbours with the lowest rank is merged, the leftmost on ties, until none is left.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/io/tokenizer/added_tokens.hpp"
#include "hydralm/io/tokenizer/bpe_vocabulary.hpp"
#include "hydralm/io/tokenizer/nfc.hpp"
#include "hydralm/io/tokenizer/split.hpp"

namespace HYDRALM_NAMESPACE {

// Any bytes are representable: those that are not UTF-8 become tokens of single bytes, and decode
// returns the text, normalised. A const tokenizer may be used by any number of threads at once.
class BpeTokenizer {
public:
    // Throws Error for parts that make no tokenizer: ids taken twice or of TokenizerParts::most_ids
    // and more, merges of what is no token, a byte without a token. Cost: merging the text of every
    // token.
    explicit BpeTokenizer(const TokenizerParts& parts)
        : vocabulary_(parts),
          symbols_(parts.symbols),
          leading_space_(parts.leading_space),
          nfc_(parts.nfc),
          drops_first_space_(parts.drops_first_space),
          split_(parts.split),
          prefix_(parts.prefix) {
        if (parts.split) splitter_.emplace(*parts.split);
        added_ = added_of(parts, true);
        added_text_ = added_of(parts, false);
        find_whole(parts.whole_pieces_first);
    }

    // 1 + the largest id. A model may have more.
    Index vocab_size() const noexcept { return vocabulary_.tokens().size(); }

    // The ids of a text, without any that would begin or end it; without special ones, what is
    // spelled like a special token is text like other text. Throws Error for a text of 4 GiB or
    // more. Allocates the result, and room for the longest piece.
    std::vector<token_id> encode(std::string_view text, bool with_special = true) const {
        if (text.size() >= std::numeric_limits<std::uint32_t>::max())
            raise({.field = "text",
                   .expected = "less than 4 GiB",
                   .found = std::to_string(text.size()) + " bytes",
                   .fix = "encode it in parts"});
        std::vector<token_id> ids;
        Workspace work;
        const Added& added_tokens = with_special ? added_ : added_text_;
        added_tokens.before_normalising.split(text, [&](std::string_view between, token_id added) {
            encode_between(between, between.data() == text.data(), added_tokens, work, ids);
            if (added >= 0) ids.push_back(added);
        });
        return ids;
    }

    // The bytes that ids stand for; an id without a token has none. They need not be UTF-8:
    // Utf8Stream makes that of them. Allocates the result.
    std::string decode(std::span<const token_id> ids, bool with_special = true) const {
        std::string bytes;
        for (const token_id id : ids)
            if (with_special || !is_special(id)) bytes += text(id);
        if (drops_first_space_ && bytes.starts_with(' ')) bytes.erase(0, 1);
        return bytes;
    }

    // The bytes of one token, there as long as the tokenizer; none for an id without a token.
    std::string_view text(token_id id) const noexcept { return vocabulary_.tokens().text(id); }
    // Whether it is no text for people: the end of a text, a turn of a dialogue.
    bool is_special(token_id id) const noexcept { return vocabulary_.is_special(id); }

    // The token that was added as this text, whatever normalisation; -1 where there is none.
    token_id added(std::string_view text) const noexcept {
        const auto match = added_.before_normalising.find(text, 0);
        return match.begin == 0 && match.end == text.size() ? match.id : -1;
    }
    // What the file says: whether symbols are bytes, how texts are cut, whether they are composed.
    bool by_bytes() const noexcept { return symbols_ == TokenizerParts::Symbols::bytes; }
    const std::optional<SplitRule>& split() const noexcept { return split_; }
    bool composes() const noexcept { return nfc_; }

    // The ids that begin a text that a model is to go on with.
    std::span<const token_id> prefix() const noexcept { return prefix_; }

private:
    using LeadingSpace = TokenizerParts::LeadingSpace;

    struct Workspace {
        detail::NfcNormaliser nfc;
        detail::MergeWorkspace merging;
        std::string spaced;
    };

    struct Added {
        detail::AddedTokens before_normalising, in_normalised;
    };
    Added added_of(const TokenizerParts& parts, bool with_special) const {
        std::vector<detail::AddedTokens::Token> before, in_normalised;
        Workspace work;
        for (const auto& token : parts.added) {
            if (token.special && !with_special) continue;
            if (token.in_normalised)
                in_normalised.push_back({std::string(normalised(token.text, work)), token.id});
            else before.push_back({token.text, token.id});
        }
        return {detail::AddedTokens(std::move(before)),
                detail::AddedTokens(std::move(in_normalised))};
    }

    // Which tokens a piece of their text becomes at once: those it merges to.
    void find_whole(bool whatever_merges) {
        whole_.resize(static_cast<std::size_t>(vocab_size()));
        Workspace work;
        for (token_id id = 0; id < vocab_size(); ++id) {
            const std::string_view piece = text(id);
            if (piece.empty() || vocabulary_.tokens().find(piece) != id) continue;
            const auto ids = merged(piece, work.merging);
            whole_[static_cast<std::size_t>(id)] = whatever_merges || ids.size() == 1;
        }
    }

    // What stands between added tokens.
    void encode_between(std::string_view text, bool at_start, const Added& added_tokens,
                        Workspace& work, std::vector<token_id>& ids) const {
        if (text.empty()) return;
        const std::string_view whole = normalised(text, work);
        added_tokens.in_normalised.split(whole, [&](std::string_view part, token_id added) {
            encode_part(part, at_start && part.data() == whole.data(), work, ids);
            if (added >= 0) ids.push_back(added);
        });
    }

    // Valid until work is used again.
    std::string_view normalised(std::string_view text, Workspace& work) const {
        if (nfc_) text = work.nfc(text);
        if (symbols_ == TokenizerParts::Symbols::bytes) return text;
        work.spaced = leading_space_ == LeadingSpace::always ? " " : "";
        return work.spaced += detail::with_spaces(text);
    }

    void encode_part(std::string_view text, bool at_start, Workspace& work,
                     std::vector<token_id>& ids) const {
        const bool leads = leading_space_ == LeadingSpace::unless_there ||
                           (leading_space_ == LeadingSpace::unless_there_at_start && at_start);
        std::string led;
        if (leads && !text.starts_with(' ') && !text.empty()) text = (led = " ") += text;
        while (!text.empty()) {
            const std::size_t length = first_piece(text);
            const std::string_view piece = text.substr(0, length);
            text.remove_prefix(length);
            const token_id whole = vocabulary_.tokens().find(piece);
            if (whole >= 0 && whole_[static_cast<std::size_t>(whole)]) {
                ids.push_back(whole);
                continue;
            }
            const auto tokens = merged(piece, work.merging);
            ids.insert(ids.end(), tokens.begin(), tokens.end());
        }
    }

    std::size_t first_piece(std::string_view text) const noexcept {
        if (splitter_) return splitter_->first_piece(text);
        if (!vocabulary_.parts_before_spaces()) return text.size();
        std::size_t end = text.find_first_not_of(' ');
        if (end != text.npos) end = text.find(' ', end);
        return std::min(end, text.size());
    }

    std::span<const token_id> merged(std::string_view piece,
                                     detail::MergeWorkspace& merging) const {
        std::vector<token_id>& symbols = merging.symbols();
        symbols.clear();
        if (symbols_ == TokenizerParts::Symbols::bytes) {
            for (const char byte : piece) symbols.push_back(vocabulary_.of_byte(byte));
            return merging.merge(vocabulary_.merges());
        }
        while (!piece.empty()) {
            const auto character = piece.substr(0, detail::first_character(piece).length);
            const token_id id = vocabulary_.tokens().find(character);
            if (id >= 0) symbols.push_back(id);
            else
                for (const char byte : character) symbols.push_back(vocabulary_.of_byte(byte));
            piece.remove_prefix(character.size());
        }
        return merging.merge(vocabulary_.merges());
    }

    detail::BpeVocabulary vocabulary_;
    Added added_, added_text_;  // all; those that are not special
    std::optional<detail::Splitter> splitter_;
    std::vector<bool> whole_;  // whether a piece of an id's text is that id
    TokenizerParts::Symbols symbols_;
    LeadingSpace leading_space_;
    bool nfc_, drops_first_space_;
    std::optional<SplitRule> split_;
    std::vector<token_id> prefix_;
};

}  // namespace HYDRALM_NAMESPACE
