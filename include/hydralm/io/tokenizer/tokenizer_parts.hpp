// TokenizerParts: what a file says of a BPE tokenizer, whatever the file's format.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/types.hpp"
#include "hydralm/io/tokenizer/split.hpp"

namespace HYDRALM_NAMESPACE {

struct TokenizerParts {
    // Larger ids are refused: tables have a place for each.
    static constexpr token_id most_ids = 1 << 21;

    // What a piece is of before anything merges.
    enum class Symbols {
        bytes,       // each spelled as a character that can be seen (GPT-2's way)
        characters,  // a space spelled U+2581; one without a token as its bytes, <0x00> to <0xFF>
    };
    // When a space is put before a text between added tokens. Of Symbols::characters only.
    enum class LeadingSpace {
        never,
        always,
        unless_there,           // before one that begins with no space
        unless_there_at_start,  // of the whole text only
    };
    struct Token {
        std::string text;  // as the file spells it
        token_id id = -1;
    };
    struct AddedToken {
        std::string text;  // as it is
        token_id id = -1;
        bool special = false;        // left out of a text for people
        bool in_normalised = false;  // looked for behind normalisation, else before
    };

    std::string file;  // for messages
    Symbols symbols = Symbols::bytes;
    bool nfc = false;
    std::optional<SplitRule> split;   // none: pieces are texts between added tokens
    bool whole_pieces_first = false;  // a piece that is a token is that, whatever merges
    LeadingSpace leading_space = LeadingSpace::never;
    bool drops_first_space = false;  // of what is decoded
    std::vector<Token> vocabulary;
    std::vector<std::pair<std::string, std::string>> merges;  // spelled; the first merge first
    std::vector<AddedToken> added;
    std::vector<token_id> prefix;  // what begins a text that a model goes on with
};

}  // namespace HYDRALM_NAMESPACE
