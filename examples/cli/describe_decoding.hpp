// The options of generate, chat, score, stream and tokenize.
#pragma once

#include "as_written.hpp"
#include "shared_options.hpp"

// How tokens are drawn, and where a text ends.
inline void add_sampling(CLI::App& app, Options& o) {
    app.add_option("--temperature", o.temperature, "0 or less: greedy")
        ->capture_default_str()
        ->check(values::any_number);
    app.add_option("--top-k", o.top_k, "keep the k likeliest tokens; 0: all")
        ->capture_default_str()
        ->check(values::whole(0, values::largest_int));
    app.add_option("--top-p", o.top_p, "keep the likeliest tokens up to this mass")
        ->capture_default_str()
        ->check(values::share);
    app.add_option("--min-p", o.min_p, "drop tokens below this share of the likeliest")
        ->capture_default_str()
        ->check(values::share);
    app.add_option("--repetition-penalty", o.repetition_penalty, "above 1: less repetition")
        ->capture_default_str()
        ->check(values::above_zero);
    app.add_option("--seed", o.seed, "seed of the sampling")
        ->capture_default_str()
        ->check(values::seed);
    as_written::add_texts(app, "--stop", o.stop,
                          "end before this text; may be given several times");
}

inline void describe_generate(CLI::App& app, Options& o) {
    add_model(app, o);
    add_weights(app, o);
    auto* prompt = app.add_option("--prompt", o.prompt, "text to continue");
    auto* continued = app.add_option("--text", o.text, "file of text to continue");
    continued->excludes(prompt);
    app.add_option("--ids", o.ids, "file of token ids to continue: decimal, between whitespace")
        ->excludes(prompt)
        ->excludes(continued);
    app.add_option("--tokens", o.tokens, "how many tokens")->required()->check(values::count);
    add_sampling(app, o);
    auto* draft = app.add_option(
        "--draft", o.draft, "speculative decoding: mtp, or a checkpoint of the same vocabulary");
    app.add_option("--draft-tokens", o.draft_tokens, "drafts a round")
        ->capture_default_str()
        ->needs(draft)
        ->check(values::whole(0, 4096));
    app.add_flag("--print-ids", o.print_ids, "print the new ids instead of text");
    add_bank(app, o);
}

inline void describe_chat(CLI::App& app, Options& o) {
    add_model(app, o);
    add_weights(app, o);
    app.add_option("--system", o.system, "what the dialogue begins with");
    app.add_option("--tokens", o.tokens, "of an answer, at most; default 4096")
        ->check(values::at_least_one);
    add_sampling(app, o);
    add_bank(app, o);
}

inline void describe_score(CLI::App& app, Options& o) {
    add_model(app, o);
    add_weights(app, o);
    auto* scored = app.add_option("--text", o.text, "file of text");
    app.add_option("--ids", o.ids, "file of token ids: decimal, between whitespace")
        ->excludes(scored);
    add_bank(app, o);
}

inline void describe_stream(CLI::App& app, Options& o) {
    add_model(app, o);
    add_weights(app, o);
    app.add_option("--text", o.text, "file of text")->required();
    app.add_option("--tokens", o.tokens, "how many tokens; default: the file's")
        ->check(values::whole(1, std::uint64_t{1} << 50));
    app.add_flag("--repeat", o.repeat, "begin the file again at its end, until --tokens");
    add_bank(app, o);
}

inline void describe_tokenize(CLI::App& app, Options& o) {
    auto* model = app.add_option("--model", o.model, "checkpoint whose tokenizer it is");
    auto* file = app.add_option("--tokenizer", o.tokenizer, "tokenizer.json, or a GGUF file");
    auto* prompt = app.add_option("--prompt", o.prompt, "text; with --decode, ids");
    auto* text = app.add_option("--text", o.text, "file of text; with --decode, of ids");
    auto* lines = app.add_option("--lines", o.lines,
                                 "file of a JSON string a line, printed as arrays of ids");
    app.add_flag("--decode", o.decode, "ids to text");
    auto* by = app.add_option_group("by", "the tokenizer");
    by->add_options(model, file);
    by->require_option(1);
    auto* what = app.add_option_group("what", "what to convert");
    what->add_options(prompt, text, lines);
    what->require_option(1);
}
