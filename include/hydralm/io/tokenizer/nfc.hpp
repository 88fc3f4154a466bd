// Normalisation form C of a text (Unicode Standard Annex 15), by the tables' version of Unicode.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hydralm/io/tokenizer/unicode.hpp"

namespace HYDRALM_NAMESPACE::detail {

// Only what may change is decomposed, ordered and composed: from the character before the first
// that may, up to the next that may not. Bytes that are not UTF-8 stay as they are.
class NfcNormaliser {
public:
    // The text itself where it is in the form, else a copy that lives until the next call.
    // Allocates as the copy grows.
    std::string_view operator()(std::string_view text) {
        std::size_t safe = 0;  // where the last character that cannot change begins
        std::size_t i = 0;
        const auto changes = [&](std::size_t at, Character& c) {
            if (static_cast<unsigned char>(text[at]) < 0x80) {
                c = {0, 1};
                return false;
            }
            c = first_character(text.substr(at));
            return (tables_.properties(c.value) & may_change_by_nfc) != 0;
        };
        std::size_t kept = 0;  // bytes of text that are in the copy, changed or not
        copy_.clear();
        for (Character c; i < text.size(); i += c.length) {
            if (!changes(i, c)) {
                safe = i;
                continue;
            }
            std::size_t end = i + c.length;
            while (end < text.size() && changes(end, c)) end += c.length;
            copy_ += text.substr(kept, safe - kept);
            compose(text.substr(safe, end - safe));
            kept = safe = i = end;
            c.length = 0;
        }
        if (kept == 0) return text;
        copy_ += text.substr(kept);
        return copy_;
    }

private:
    // Hangul syllables are composed by rule (Unicode 3.12).
    static constexpr char32_t syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, trails = 0x11A7;
    static constexpr char32_t lead_count = 19, vowel_count = 21, trail_count = 28;
    static constexpr char32_t syllable_count = lead_count * vowel_count * trail_count;

    struct Part {
        char32_t value;
        std::uint8_t combining_class;
        std::size_t place = 0;  // among the marks it stands with
    };

    void compose(std::string_view run) {
        parts_.clear();
        for (; !run.empty(); run.remove_prefix(first_character(run).length)) {
            const Character c = first_character(run);
            if (c.value == no_character) {  // the safe one before the run
                copy_ += run[0];
                continue;
            }
            decompose(c.value);
        }
        order();
        std::size_t starter = parts_.size(), kept = 0;
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            const Part part = parts_[i];
            // Not blocked: nothing stands between, or only marks of lower classes.
            if (starter < kept &&
                (starter + 1 == kept || parts_[kept - 1].combining_class < part.combining_class))
                if (const char32_t both = composed(parts_[starter].value, part.value)) {
                    parts_[starter].value = both;
                    continue;
                }
            if (part.combining_class == 0) starter = kept;
            parts_[kept++] = part;
        }
        for (std::size_t i = 0; i < kept; ++i) append_utf8(copy_, parts_[i].value);
    }

    void decompose(char32_t c) {
        if (c - syllables < syllable_count) {
            const char32_t index = c - syllables;
            parts_.push_back({leads + index / (vowel_count * trail_count), 0});
            parts_.push_back({vowels + index / trail_count % vowel_count, 0});
            if (index % trail_count != 0) parts_.push_back({trails + index % trail_count, 0});
            return;
        }
        // The second part of a decomposition decomposes no further.
        const auto* const step = tables_.decomposition(c);
        if (step == nullptr) {
            parts_.push_back({c, tables_.combining_class(c)});
            return;
        }
        decompose(step->first);
        if (step->second != 0)
            parts_.push_back({step->second, tables_.combining_class(step->second)});
    }

    // Marks between starters by their classes, those of one class as they came.
    void order() {
        for (auto begin = parts_.begin(); begin != parts_.end();) {
            const auto is_starter = [](const Part& p) { return p.combining_class == 0; };
            const auto end = std::find_if(begin, parts_.end(), is_starter);
            for (auto part = begin; part != end; ++part)
                part->place = static_cast<std::size_t>(part - begin);
            std::sort(begin, end, [](const Part& a, const Part& b) {
                return std::pair(a.combining_class, a.place) <
                       std::pair(b.combining_class, b.place);
            });
            begin = std::find_if_not(end, parts_.end(), is_starter);
        }
    }

    char32_t composed(char32_t first, char32_t second) const noexcept {
        if (first - leads < lead_count && second - vowels < vowel_count)
            return syllables + ((first - leads) * vowel_count + second - vowels) * trail_count;
        if (first - syllables < syllable_count && (first - syllables) % trail_count == 0 &&
            second > trails && second - trails < trail_count)
            return first + second - trails;
        return tables_.composition(first, second);
    }

    const UnicodeTables& tables_ = UnicodeTables::get();
    std::string copy_;
    std::vector<Part> parts_;
};

}  // namespace HYDRALM_NAMESPACE::detail
