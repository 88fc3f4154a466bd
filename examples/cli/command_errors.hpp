// What is wrong with a command line, in the program's words: from what the parser has read and was
// told to expect. The texts of its own exceptions are not shown.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "as_written.hpp"
#include "values.hpp"

namespace command_errors {

// The first text that is not empty: f(app), or f of its groups of options and the commands that
// were named.
template <class F>
std::string first_of(const CLI::App& app, const F& f) {
    if (std::string text = f(app); !text.empty()) return text;
    for (const CLI::App* inner : app.get_subcommands([](const CLI::App* command) {
             return command->get_name().empty() || command->count() > 0;
         }))
        if (std::string text = first_of(*inner, f); !text.empty()) return text;
    return {};
}

// An option that was given more often than it takes values.
inline std::string given_again(const CLI::App& app) {
    for (const CLI::Option* option : app.get_options()) {
        const int most = option->get_items_expected_max();
        if (most > 0 && option->count() > static_cast<std::size_t>(most))
            return option->get_name() + ": expected one value, found " +
                   std::to_string(option->count());
    }
    return {};
}

// What is missing, or does not go together.
inline std::string broken_rule(const CLI::App& app) {
    std::vector<std::string> names;
    std::size_t given = 0;
    for (const CLI::Option* option : app.get_options()) {
        const std::string name = option->get_name();
        if (option->count() == 0 && option->get_required())
            return name + ": expected a value, found none";
        if (option != app.get_help_ptr()) names.push_back(name);
        if (option->count() == 0) continue;
        ++given;
        for (const CLI::Option* other : option->get_needs())
            if (other->count() == 0)
                return name + ": expected " + other->get_name() + " with it, found none";
        for (const CLI::Option* other : option->get_excludes())
            if (other->count() > 0)
                return name + ": expected without " + other->get_name() + ", found both";
    }
    if (app.get_subcommands().size() < app.get_require_subcommand_min())
        return "expected a command, found none";
    const std::size_t most = app.get_require_option_max();
    if (given < app.get_require_option_min() || (most > 0 && given > most))
        return "expected one of " + values::joined(names, ",") + ", found " +
               (given == 0 ? "none" : std::to_string(given));
    return {};
}

// last: the last word of the command line, which is an option where a value is missing behind it.
inline std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error,
                                 const std::string& last) {
    for (const std::string& word : app.remaining(true))
        if (word != "--")
            return "expected a known command or option, found " + as_written::unmarked(word);
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
        const std::string again = first_of(app, given_again);
        return again.empty() ? last + ": expected a value, found none" : again;
    }
    const std::string rule = first_of(app, broken_rule);
    const bool of_a_value = dynamic_cast<const CLI::ValidationError*>(&error) != nullptr;
    return of_a_value || rule.empty() ? error.what()
                                      : rule;  // values.hpp says what a value must be
}

}  // namespace command_errors
