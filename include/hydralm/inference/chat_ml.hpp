// ChatMl: dialogues in the ids that models of the ChatML template were trained on.
//
//   <|im_start|>system\nTEXT<|im_end|>\n<|im_start|>user\nTEXT<|im_end|>\n<|im_start|>assistant\n…
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hydralm/io/tokenizer/bpe_tokenizer.hpp"

namespace HYDRALM_NAMESPACE {

// role: system, user or assistant.
struct ChatMessage {
    std::string role;
    std::string text;

    bool operator==(const ChatMessage&) const = default;
};

// Where the vocabulary has <think>, an answer begins behind an empty thought, as Qwen's template
// has it where thinking is off; thoughts of earlier answers are the caller's to leave out. What a
// message spells like a special token is text like other text.
class ChatMl {
public:
    explicit ChatMl(const BpeTokenizer&& tokenizer) = delete;
    // The tokenizer must outlive it. Throws Error for one without the two tokens, or whose symbols
    // are characters.
    explicit ChatMl(const BpeTokenizer& tokenizer)
        : tokenizer_(tokenizer),
          start_(added("<|im_start|>")),
          end_(added("<|im_end|>")),
          opening_(tokenizer.encode(tokenizer.added("<think>") >= 0
                                        ? "assistant\n<think>\n\n</think>\n\n"
                                        : "assistant\n")),
          between_(tokenizer.encode("\n")) {
        if (!tokenizer.by_bytes())
            raise({.field = "tokenizer",
                   .expected = "a byte-level one",
                   .found = "one of characters",
                   .fix = "ask with generate, and write the model's own template"});
    }

    // What ends an answer.
    token_id end() const noexcept { return end_; }

    // The ids of a dialogue and of the opening of the answer to come. Allocates the result.
    std::vector<token_id> prompt(std::span<const ChatMessage> messages) const {
        std::vector<token_id> ids;
        const auto put = [&](const std::vector<token_id>& more) {
            ids.insert(ids.end(), more.begin(), more.end());
        };
        for (const ChatMessage& message : messages) {
            ids.push_back(start_);
            put(tokenizer_.encode(message.role + "\n" + message.text, false));
            ids.push_back(end_);
            put(between_);
        }
        ids.push_back(start_);
        put(opening_);
        return ids;
    }

private:
    token_id added(const char* text) const {
        const token_id id = tokenizer_.added(text);
        if (id < 0)
            raise({.field = "tokenizer",
                   .expected = std::string("the token ") + text + " of ChatML",
                   .found = "none",
                   .fix = "ask with generate, and write the model's own template"});
        return id;
    }

    const BpeTokenizer& tokenizer_;
    token_id start_, end_;
    std::vector<token_id> opening_, between_;
};

}  // namespace HYDRALM_NAMESPACE
