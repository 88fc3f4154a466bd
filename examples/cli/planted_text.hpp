// Facts planted in a text of the user's own, in the form of retrieval_qa: names are symbols, the
// text is filler, byte by byte.
#pragma once

#include <hydralm/core/error.hpp>
#include <hydralm/core/random.hpp>
#include <hydralm/core/types.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "text_input.hpp"

struct PlantedFact {
    std::string key, value;
    std::int64_t place = 0;  // bytes of the text before it
};

// Names to ids in [256, 508), in the order in which they come; and back.
class Symbols {
public:
    static constexpr std::size_t most = 252;

    // Throws Error for a name too many.
    hydralm::token_id id_of(const std::string& name) {
        const auto [entry, is_new] = ids_.try_emplace(name, first_ + names_.size());
        if (is_new) names_.push_back(name);
        if (names_.size() > most)
            throw hydralm::Error({.field = "--fact",
                                  .expected = "at most 252 different keys and values",
                                  .found = std::to_string(names_.size()),
                                  .fix = "plant fewer facts, or use names again"});
        return static_cast<hydralm::token_id>(entry->second);
    }
    // Nothing for an id without a name.
    std::optional<std::string> name_of(hydralm::token_id id) const {
        const auto at = static_cast<std::size_t>(id) - first_;
        if (static_cast<std::size_t>(id) < first_ || at >= names_.size()) return {};
        return names_[at];
    }

private:
    static constexpr std::size_t first_ = 256;
    std::map<std::string, std::size_t> ids_;
    std::vector<std::string> names_;
};

// The tokens of a text with `KEY k VAL v` at places that a seed chooses, read piece by piece.
class PlantedText {
public:
    // facts: KEY=VALUE, split at the first sign. Throws Error for one that is none, for a key that
    // comes twice, for too many names, and for a text of no known size or too short.
    PlantedText(const std::vector<std::string>& facts, const std::string& path, TextFile& text,
                std::uint64_t seed)
        : path_(path), text_(text), bytes_(text.size()) {
        if (bytes_ == std::numeric_limits<std::int64_t>::max())
            throw hydralm::Error({.file = path,
                                  .expected = "a file, whose size says where facts may lie",
                                  .found = "a pipe",
                                  .fix = "save the text to a file first"});
        if (static_cast<std::int64_t>(facts.size()) > bytes_)
            throw hydralm::Error({.file = path,
                                  .field = "text",
                                  .expected = "a byte for each fact",
                                  .found = std::to_string(bytes_),
                                  .fix = "plant fewer facts, or give a longer text"});
        hydralm::Random random(seed);
        std::set<std::int64_t> places;
        for (const std::string& fact : facts) {
            PlantedFact planted = split(fact);
            if (find(planted.key) != nullptr)
                throw hydralm::Error({.field = "--fact",
                                      .expected = "every key once",
                                      .found = "'" + planted.key + "' twice",
                                      .fix = "plant one value for a key"});
            symbols_.id_of(planted.key);
            symbols_.id_of(planted.value);
            do {
                planted.place =
                    static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(bytes_)));
            } while (!places.insert(planted.place).second);
            facts_.push_back(std::move(planted));
        }
        std::ranges::sort(facts_, {}, &PlantedFact::place);
    }

    // Tokens in all.
    std::int64_t size() const noexcept { return bytes_ + fact_tokens * std::ssize(facts_); }
    // The fact of a key, or null.
    const PlantedFact* find(const std::string& key) const {
        const auto found = std::ranges::find(facts_, key, &PlantedFact::key);
        return found == facts_.end() ? nullptr : &*found;
    }
    // The token that has the value of a fact.
    std::int64_t value_token(const PlantedFact& fact) const noexcept {
        return first_token(fact) + fact_tokens - 1;
    }
    // Bytes of the text before a token.
    std::int64_t byte_of(std::int64_t token) const noexcept {
        std::int64_t planted = 0;
        for (const PlantedFact& fact : facts_)
            planted += std::clamp<std::int64_t>(token - first_token(fact), 0, fact_tokens);
        return std::min(token - planted, bytes_);
    }
    // `QUERY k VAL`, whose next token is the answer.
    std::array<hydralm::token_id, 3> question(const std::string& key) {
        return {query_mark, symbols_.id_of(key), value_mark};
    }
    std::optional<std::string> name_of(hydralm::token_id id) const { return symbols_.name_of(id); }

    // The next tokens; 0 at the end. Throws Error for a text that has become shorter.
    std::size_t read(std::span<hydralm::token_id> out) {
        std::size_t n = 0;
        while (n < out.size() && at_ < size()) {
            const std::int64_t fact = next_ < facts_.size() ? first_token(facts_[next_]) : size();
            if (at_ >= fact) {
                out[n++] = token(facts_[next_], at_ - fact);
                if (++at_ == fact + fact_tokens) ++next_;
                continue;
            }
            const auto room = std::min(static_cast<std::int64_t>(out.size() - n), fact - at_);
            const std::size_t got = text_.read(out.subspan(n, static_cast<std::size_t>(room)));
            if (got == 0)
                throw hydralm::Error({.file = path_,
                                      .field = "text",
                                      .expected = std::to_string(bytes_) + " bytes",
                                      .found = std::to_string(byte_of(at_)),
                                      .fix = "leave the file as it is while it is read"});
            n += got;
            at_ += static_cast<std::int64_t>(got);
        }
        return n;
    }

private:
    static constexpr std::int64_t fact_tokens = 4;
    static constexpr hydralm::token_id key_mark = 508, value_mark = 509, query_mark = 510;

    std::int64_t first_token(const PlantedFact& fact) const noexcept {
        return fact.place + fact_tokens * (&fact - facts_.data());
    }
    static PlantedFact split(const std::string& fact) {
        const std::size_t sign = fact.find('=');
        if (sign == fact.npos || sign == 0 || sign + 1 == fact.size())
            throw hydralm::Error({.field = "--fact",
                                  .expected = "KEY=VALUE",
                                  .found = "'" + fact + "'",
                                  .fix = "write both names, with a sign between them"});
        return {.key = fact.substr(0, sign), .value = fact.substr(sign + 1)};
    }
    hydralm::token_id token(const PlantedFact& fact, std::int64_t i) {
        return i == 0   ? key_mark
               : i == 1 ? symbols_.id_of(fact.key)
               : i == 2 ? value_mark
                        : symbols_.id_of(fact.value);
    }

    std::string path_;
    TextFile& text_;
    std::int64_t bytes_, at_ = 0;     // of the text; the token that comes next
    std::vector<PlantedFact> facts_;  // by place
    std::size_t next_ = 0;            // fact
    Symbols symbols_;
};
