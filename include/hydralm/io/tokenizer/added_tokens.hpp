// AddedTokens: texts that are tokens wherever they stand, whatever is around them.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::detail {

class AddedTokens {
public:
    struct Token {
        std::string text;  // not empty
        token_id id;
    };

    AddedTokens() = default;
    explicit AddedTokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
        std::ranges::sort(tokens_, {}, &Token::text);
        for (const Token& token : tokens_)
            begins_[static_cast<unsigned char>(token.text[0])] = true;
    }

    struct Match {
        std::size_t begin, end;  // begin = end: there is none, the text is over
        token_id id;
    };
    // The first of them at or behind `from`, of those that begin there the longest.
    Match find(std::string_view text, std::size_t from) const noexcept {
        for (std::size_t i = from; i < text.size() && !tokens_.empty(); ++i)
            if (begins_[static_cast<unsigned char>(text[i])])
                if (const Token* token = longest(text.substr(i)))
                    return {i, i + token->text.size(), token->id};
        return {text.size(), text.size(), -1};
    }

    // f(text between two tokens, which may be empty, and the id of the token behind it; -1: the
    // end)
    template <class F>
    void split(std::string_view text, const F& f) const {
        for (std::size_t from = 0;;) {
            const Match match = find(text, from);
            f(text.substr(from, match.begin - from), match.id);
            if (match.id < 0) return;
            from = match.end;
        }
    }

private:
    // The longest of those that text begins with. Sorted, all that share the first n bytes are
    // neighbours, and the one of n bytes stands first.
    const Token* longest(std::string_view text) const noexcept {
        const Token* found = nullptr;
        auto first = tokens_.begin(), last = tokens_.end();
        for (std::size_t n = 0; n < text.size() && first != last; ++n) {
            const auto byte_at_n = [n](const Token& t) {
                return t.text.size() > n ? static_cast<unsigned char>(t.text[n]) : -1;
            };
            const auto here = std::ranges::equal_range(
                first, last, static_cast<int>(static_cast<unsigned char>(text[n])), {}, byte_at_n);
            first = here.begin();
            last = here.end();
            if (first != last && first->text.size() == n + 1) found = &*first;
        }
        return found;
    }

    std::vector<Token> tokens_;       // by their text
    std::array<bool, 256> begins_{};  // whether one begins with this byte
};

}  // namespace HYDRALM_NAMESPACE::detail
