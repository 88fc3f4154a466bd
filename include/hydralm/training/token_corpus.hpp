// TokenCorpus: the texts of a TextCorpus as the ids of a tokenizer.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "hydralm/io/tokenizer.hpp"
#include "hydralm/training/text_corpus.hpp"

namespace HYDRALM_NAMESPACE {

// A value: copies share the ids, 4 bytes each.
class TokenCorpus {
public:
    using Text = std::span<const token_id>;
    static constexpr const char* unit = "tokens";

    // Throws Error where encode does.
    template <Tokenizer T>
    TokenCorpus(const TextCorpus& corpus, const T& tokenizer) {
        auto ids = std::make_shared<std::vector<std::vector<token_id>>>();
        for (const TextCorpus::Text& text : corpus.texts()) {
            ids->push_back(
                tokenizer.encode({reinterpret_cast<const char*>(text.data()), text.size()}));
            texts_.emplace_back(ids->back());
        }
        owner_ = std::move(ids);
    }

    const std::vector<Text>& texts() const noexcept { return texts_; }
    // Ids of all texts, and of the longest.
    Index size() const noexcept {
        Index n = 0;
        for (const Text& text : texts_) n += std::ssize(text);
        return n;
    }
    Index longest() const noexcept {
        Index most = 0;
        for (const Text& text : texts_) most = std::max(most, std::ssize(text));
        return most;
    }
    // Of texts longer than length: what windows of it are drawn from.
    Index tokens_in_longer_than(Index length) const noexcept {
        Index n = 0;
        for (const Text& text : texts_)
            if (std::ssize(text) > length) n += std::ssize(text);
        return n;
    }

private:
    std::shared_ptr<const std::vector<std::vector<token_id>>> owner_;
    std::vector<Text> texts_;
};

}  // namespace HYDRALM_NAMESPACE
