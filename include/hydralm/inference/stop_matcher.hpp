// StopMatcher: ends a stream of text at the first of several stop texts, wherever tokens happen to
// be cut.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Passes bytes on as soon as they cannot belong to a stop text, and withholds the rest: at most the
// longest stop text less one byte. The stop text itself is never passed on. The one that ends first
// stops the stream; of several that end there, the longest. A Knuth–Morris–Pratt automaton per stop
// text: a few steps a byte for each, whatever the text.
class StopMatcher {
public:
    // Any number of stop texts, also none. Throws Error for an empty one.
    explicit StopMatcher(std::vector<std::string> stops = {}) {
        for (auto& stop : stops) {
            if (stop.empty())
                raise({.field = "stop",
                       .expected = "a text of at least one byte",
                       .found = "an empty one",
                       .fix = "leave it out"});
            patterns_.push_back(Pattern(std::move(stop)));
        }
    }

    // Takes bytes, returns those that are now free to be shown: a view valid until the next call.
    // After found() it takes nothing. Allocates only while the longest piece so far grows.
    std::string_view push(std::string_view bytes) {
        text_.erase(0, released_);
        released_ = 0;
        for (const char byte : bytes) {
            if (found()) break;
            text_ += byte;
            step(byte);
        }
        released_ = text_.size() - withheld_;
        if (found()) {
            text_.resize(released_);
            withheld_ = 0;
        }
        return std::string_view(text_).substr(0, released_);
    }

    // The end of the stream: what was withheld and turned out to be text. The matcher is as new
    // afterwards, but for found().
    std::string_view flush() {
        text_.erase(0, released_);
        released_ = text_.size();
        withheld_ = 0;
        for (auto& pattern : patterns_) pattern.matched = 0;
        return text_;
    }

    // Whether a stop text has ended the stream, and which: an index into the constructor's list, −1
    // for none.
    bool found() const noexcept { return stop_ >= 0; }
    Index stop() const noexcept { return stop_; }

    // Ready for another stream with the same stop texts.
    void reset() noexcept {
        flush();
        stop_ = -1;
    }

private:
    struct Pattern {
        explicit Pattern(std::string stop) : text(std::move(stop)), border(text.size() + 1) {
            for (std::size_t i = 1, b = 0; i < text.size(); ++i) {
                while (b > 0 && text[i] != text[b]) b = border[b];
                b += text[i] == text[b] ? 1U : 0U;
                border[i + 1] = b;
            }
        }

        // matched < text.size() becomes the longest prefix of text that the stream ends with.
        void step(char byte) noexcept {
            while (matched > 0 && text[matched] != byte) matched = border[matched];
            matched += text[matched] == byte ? 1U : 0U;
        }

        std::string text;
        std::vector<std::size_t>
            border;  // [length]: of a prefix, its longest proper suffix that is a prefix too
        std::size_t matched = 0;
    };

    void step(char byte) noexcept {
        std::size_t prefix = 0, whole = 0;
        for (std::size_t i = 0; i < patterns_.size(); ++i) {
            Pattern& pattern = patterns_[i];
            pattern.step(byte);
            prefix = std::max(prefix, pattern.matched);
            if (pattern.matched == pattern.text.size() && pattern.matched > whole) {
                whole = pattern.matched;
                stop_ = static_cast<Index>(i);
            }
        }
        withheld_ = found() ? whole : prefix;
    }

    std::vector<Pattern> patterns_;
    std::string text_;          // what push returned last, then what is withheld
    std::size_t released_ = 0;  // bytes of text_ that push has returned
    std::size_t withheld_ = 0;  // bytes at the end of text_ that may belong to a stop text
    Index stop_ = -1;
};

}  // namespace HYDRALM_NAMESPACE
