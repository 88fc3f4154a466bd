// The one exception type of the library: what was wrong, where, and what mends it.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "hydralm/core/utf8.hpp"

namespace HYDRALM_NAMESPACE {

// Everything a message needs. Empty parts are left out of the text.
struct ErrorDetail {
    std::string file{};      // the file the trouble is in
    std::string field{};     // tensor, config field, argument
    std::string expected{};  // what would have been right
    std::string found{};     // what was there
    std::string fix{};       // what the user can do about it
};

// Thrown for bad input. what() is one line: "hydralm: FILE: FIELD: expected E, found F; FIX". Names
// and values come from files: what is no UTF-8 or would not stay on the line is shown as ?, and
// what is long is cut.
class Error : public std::runtime_error {
public:
    explicit Error(ErrorDetail detail)
        : std::runtime_error(text(detail)), detail_(std::move(detail)) {}

    const ErrorDetail& detail() const noexcept { return detail_; }

private:
    static std::string text(const ErrorDetail& d) {
        std::string line = "hydralm";
        if (!d.file.empty()) line += ": " + shown(d.file);
        if (!d.field.empty()) line += ": " + shown(d.field);
        if (!d.expected.empty()) line += ": expected " + shown(d.expected);
        if (!d.found.empty())
            line += (d.expected.empty() ? ": found " : ", found ") + shown(d.found);
        if (!d.fix.empty()) line += "; " + shown(d.fix);
        return line;
    }
    static std::string shown(const std::string& part) { return detail::one_line(part, 4096); }

    ErrorDetail detail_;
};

}  // namespace HYDRALM_NAMESPACE
