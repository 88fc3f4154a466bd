// Values of the command line as they are written.
//
// CLI11 reads some values as something else: [a,b] as several, [[aabb]] as [ab], {} as none, and
// --name= with the next word as its value. Before it sees them, such values get a mark in front,
// which is taken off again when they are stored.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "values.hpp"

namespace as_written {

inline constexpr std::string_view mark = "\x01\x02";

// Where the value of a word begins: of --name=value behind the sign.
inline std::size_t value_of(std::string_view word) {
    const std::size_t sign = word.starts_with("--") ? word.find('=') : word.npos;
    return sign == word.npos ? 0 : sign + 1;
}

inline std::string marked(std::string word) {
    const std::size_t at = value_of(word);
    const std::string_view value = std::string_view(word).substr(at);
    if (value.empty() || value[0] == '[' || value[0] == '{' || value.starts_with(mark))
        word.insert(at, mark);
    return word;
}

inline std::string unmarked(std::string word) {
    const std::size_t at = value_of(word);
    if (std::string_view(word).substr(at).starts_with(mark)) word.erase(at, mark.size());
    return word;
}

// The words behind the program's name, last first, as CLI::App::parse takes them.
inline std::vector<std::string> words_of(int argc, char** argv) {
    std::vector<std::string> words;
    for (int i = argc - 1; i > 0; --i) words.push_back(marked(argv[i]));
    return words;
}

// An option of several texts.
inline CLI::Option* add_texts(CLI::App& app, const std::string& name,
                              std::vector<std::string>& texts, const std::string& help) {
    return app
        .add_option(
            name,
            [&texts](const CLI::results_t& words) {
                texts.resize(words.size());
                std::ranges::transform(words, texts.begin(), unmarked);
                return true;
            },
            help)
        ->type_name("TEXT")
        ->expected(1, -1)  // or more
        ->allow_extra_args();
}

// For every other option of the app and its subcommands; flags have no value. To be called when
// they are all there.
inline void unmark_values(CLI::App& app) {
    for (CLI::Option* const option : app.get_options()) {
        const int most = option->get_items_expected_max();
        if (most == 0) option->check(values::none);
        if (most <= 1 || option->get_delimiter() != '\0')
            option->transform(CLI::Validator(
                [](std::string& value) {
                    value = unmarked(value);
                    return std::string();
                },
                ""));
    }
    for (CLI::App* const command : app.get_subcommands([](CLI::App*) { return true; }))
        unmark_values(*command);
}

}  // namespace as_written
