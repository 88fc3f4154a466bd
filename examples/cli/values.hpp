// What the values of options may be: checks that say what is expected and what was found.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

namespace values {

inline std::string joined(const std::vector<std::string>& words, const char* separator) {
    std::string text;
    for (const std::string& word : words) (text += text.empty() ? "" : separator) += word;
    return text;
}

// A finite number; range: words, behind a space, for what within holds for.
inline CLI::Validator number(const std::string& range, bool (*within)(double)) {
    return {[=](const std::string& text) {
                char* end = nullptr;
                const double value = std::strtod(text.c_str(), &end);
                const bool whole = !text.empty() && end == text.c_str() + text.size();
                return whole && std::isfinite(value) && within(value)
                           ? std::string()
                           : "expected a finite number" + range + ", found " + text;
            },
            range};
}
inline const CLI::Validator above_zero = number(" above 0", [](double x) { return x > 0.0; }),
                            not_negative =
                                number(" of at least 0", [](double x) { return x >= 0.0; }),
                            any_number = number("", [](double) { return true; }),
                            share =
                                number(" in [0, 1]", [](double x) { return x >= 0.0 && x <= 1.0; });

// A whole number, in decimal digits, without zeros in front.
inline CLI::Validator whole(std::uint64_t least, std::uint64_t most) {
    const std::string range = std::to_string(least) + " to " + std::to_string(most);
    return {[=](const std::string& text) {
                std::uint64_t value = 0;
                std::from_chars(text.data(), text.data() + text.size(), value);
                return std::to_string(value) == text && value >= least && value <= most
                           ? std::string()
                           : "expected a whole number in decimal digits, " + range + ", found " +
                                 text;
            },
            range};
}
inline constexpr std::uint64_t largest_int = std::numeric_limits<int>::max();
inline const CLI::Validator count = whole(0, std::uint64_t{1} << 40),
                            at_least_one = whole(1, std::uint64_t{1} << 40),
                            seed = whole(0, std::numeric_limits<std::uint64_t>::max());

// One of these words.
inline CLI::Validator one_of(const std::vector<std::string>& words) {
    const std::string list = joined(words, ", ");
    return {[=](const std::string& text) {
                return std::ranges::count(words, text) > 0
                           ? std::string()
                           : "expected one of " + list + ", found " + text;
            },
            "{" + joined(words, ",") + "}"};
}

// Bytes: a number as it is, or times what stands behind it.
inline const CLI::Validator with_unit(
    [](std::string& text) {
        const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
        std::string unit = text.substr(digits);
        std::ranges::transform(unit, unit.begin(), [](char c) {
            return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        });
        int shift = 0;
        for (const char* known : {"kib", "mib", "gib"}) {
            shift += 10;
            if (unit == known && digits > 0 && digits < 10)
                text = std::to_string(std::stoll(text.substr(0, digits)) << shift);
        }
        return std::string();
    },
    "");

// What a flag is when it stands alone.
inline const CLI::Validator none(
    [](const std::string& text) {
        return text == "true" ? std::string() : "expected no value, found " + text;
    },
    "");

}  // namespace values
