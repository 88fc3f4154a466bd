// chat: a dialogue in the model's own template, a line of standard input at a time.
#include <hydralm/families/chat_template.hpp>
#include <hydralm/inference/chat_ml.hpp>
#include <hydralm/inference/conversation.hpp>
#include <hydralm/inference/generate.hpp>
#include <hydralm/inference/stop_matcher.hpp>
#include <hydralm/inference/stop_tokens.hpp>
#include <hydralm/io.hpp>
#include <hydralm/io/tokenizer/bpe_tokenizer.hpp>

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bank_policy.hpp"
#include "inputs_kept.hpp"
#include "options.hpp"
#include "program_model.hpp"
#include "sampling.hpp"
#include "standard_streams.hpp"
#include "text_input.hpp"

namespace {

using Messages = std::vector<hydralm::ChatMessage>;

void save_messages(const Messages& messages, const std::string& path) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const auto& message : messages)
        list.push_back({{"role", message.role}, {"content", message.text}});
    hydralm::write_file(path, list.dump(1) + "\n");
}

// As save_messages wrote them: perhaps a system text, then turns of user and assistant.
Messages load_messages(const std::string& path) {
    const hydralm::MappedFile file(path);
    const auto list = hydralm::parse_json(file.text(), path, "");
    Messages messages;
    const auto refuse = [&](const std::string& expected, const auto& found) {
        throw hydralm::Error({.file = path,
                              .field = "message " + std::to_string(messages.size()),
                              .expected = expected,
                              .found = found.dump().substr(0, 80),
                              .fix = "give a file that /save wrote"});
    };
    if (!list.is_array()) refuse("a list of messages", list);
    for (const auto& message : list) {
        const auto text_of = [&](const char* field) {
            const auto found = message.is_object() ? message.find(field) : message.end();
            if (found == message.end() || !found->is_string())
                refuse("an object with the texts role and content", message);
            return found->template get<std::string>();
        };
        hydralm::ChatMessage next{text_of("role"), text_of("content")};
        const bool begins = messages.empty() || messages.back().role == "system";
        const std::string turn = !begins && messages.back().role == "user" ? "assistant" : "user";
        if (next.role != turn && !(messages.empty() && next.role == "system"))
            refuse("role " + turn, message);
        messages.push_back(std::move(next));
    }
    if (!messages.empty() && messages.back().role == "user")
        refuse("an answer to the last question", list.back());
    return messages;
}

// Bytes that are no UTF-8 as U+FFFD: what is typed goes into files.
std::string whole_characters(const std::string& bytes) {
    hydralm::Utf8Stream utf8;
    std::string text(utf8.push(bytes));
    return text += utf8.flush();
}

template <class Model>
class Chat {
public:
    Chat(const Options& o, const Model& model, const hydralm::BpeTokenizer& tokenizer,
         const hydralm::ChatMl& chat_ml)
        : o_(o),
          model_(model),
          tokenizer_(tokenizer),
          template_(chat_ml),
          conversation_(model, bank_policy(model, o.bank)),
          ends_(stop_ids_of(o.model, model)),
          longest_(o.tokens > 0 ? o.tokens : 4096) {
        ends_.push_back(template_.end());
        say_sparse_reading(conversation_.state());
        reset();
    }

    // What a line asks for: a command, or an answer to it.
    void take(const std::string& line) {
        if (line == "/reset") reset();
        else if (line.starts_with("/save ")) save(line.substr(6));
        else if (line.starts_with("/load ")) messages_ = load_messages(line.substr(6));
        else if (line.starts_with("/"))
            throw hydralm::Error({.field = "line",
                                  .expected = "/reset, /save FILE, /load FILE or a text",
                                  .found = line.substr(0, line.find(' ')),
                                  .fix = "begin a text with a space before its /"});
        else if (line.find_first_not_of(" \t\r") != line.npos) answer(line);
    }

private:
    using T = typename Model::Scalar;

    void save(const std::string& file) const {
        std::vector<std::string> inputs = files_of_folder(o_.model);
        inputs.insert(inputs.end(), {o_.model, tokenizer_file_of(o_.model).string()});
        expect_apart(file, "/save", inputs);
        save_messages(messages_, file);
    }
    void reset() {
        messages_.clear();
        if (!o_.system.empty()) messages_.push_back({"system", whole_characters(o_.system)});
    }

    // An answer depends on the dialogue before it and --seed, not on how it came about.
    void answer(const std::string& question) {
        Messages dialogue = messages_;
        dialogue.push_back({"user", whole_characters(question)});
        const auto prompt = template_.prompt(dialogue);
        hydralm::Sampler<T> sampler(model_.vocab_size(), sampling(o_));
        for (const auto token : prompt) sampler.observe(token);
        hydralm::Utf8Stream utf8;
        hydralm::StopMatcher stops(o_.stop);
        std::string said;
        const auto say = [&](std::string_view text) {
            said += text;
            std::fwrite(text.data(), 1, text.size(), stdout);
            flush_output();
        };
        const auto logits = conversation_.read(prompt);
        const auto tokens =
            hydralm::generate(model_, conversation_.state(), logits, sampler, longest_,
                              hydralm::stop_at(ends_, [&](hydralm::token_id token) {
                                  if (!tokenizer_.is_special(token))
                                      say(utf8.push(stops.push(tokenizer_.text(token))));
                                  return !stops.found();
                              }));
        say(utf8.push(stops.flush()));
        say(utf8.flush());
        std::fputc('\n', stdout);
        flush_output();
        if (tokens == longest_)
            std::fprintf(stderr, "the answer was cut after %lld tokens (--tokens)\n",
                         static_cast<long long>(tokens));
        dialogue.push_back({"assistant", std::move(said)});
        messages_ = std::move(dialogue);
    }

    const Options& o_;
    const Model& model_;
    const hydralm::BpeTokenizer& tokenizer_;
    const hydralm::ChatMl& template_;
    hydralm::Conversation<Model> conversation_;
    std::vector<hydralm::token_id> ends_;
    std::int64_t longest_;  // tokens of an answer
    Messages messages_;
};

template <class Model>
void run_chat(const Options& o) {
    hydralm::expect_chat_ml(o.model);
    const ProgramTokenizer tokenizer = ProgramTokenizer::of(o.model);
    const hydralm::ChatMl chat_ml(tokenizer.bpe());
    const Model model = load_program_model<Model>(o.model, o.weights);
    tokenizer.expect_fits(model.vocab_size());
    Chat<Model> chat(o, model, tokenizer.bpe(), chat_ml);
    const bool interactive = ::isatty(STDIN_FILENO) == 1;
    const auto ask = [&] {
        if (interactive) std::fputs("> ", stderr);
    };
    ask();
    for (std::string line; std::getline(std::cin, line); ask()) {
        if (line.ends_with('\r')) line.pop_back();
        try {
            chat.take(line);
        } catch (const hydralm::Error& error) {
            if (!interactive) throw;
            say_error(error.what());
        }
    }
    if (std::ferror(stdin) != 0)
        throw hydralm::Error({.field = "standard input",
                              .expected = "lines of text",
                              .found = "it cannot be read",
                              .fix = "check the pipe or file it comes from"});
    if (interactive) std::fputc('\n', stderr);
}

}  // namespace

void chat(const Options& o) {
    with_model(o, [&]<class Model>() { run_chat<Model>(o); });
}
