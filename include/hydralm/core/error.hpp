// The one exception type of the library: what was wrong, where, and what mends it. And how it is
// thrown and caught, or, with -fno-exceptions, ends the program.
#pragma once

#include <atomic>
#include <cstdio>
#include <cstdlib>
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

#if defined(__cpp_exceptions)

template <class Exception>
[[noreturn]] void raise(const Exception& exception) {
    throw exception;
}

// body(); or, where that throws such an Exception, otherwise(exception).
template <class Exception = Error, class Body, class Otherwise>
auto attempt(const Body& body, const Otherwise& otherwise) {
    try {
        return body();
    } catch (const Exception& exception) {
        return otherwise(exception);
    }
}

#else

// What is called with the text of an error in place of throwing it. It must not return: the program
// is aborted if it does.
using ErrorHandler = void (*)(const char* text);

namespace detail {
inline void print_error(const char* text) { std::fprintf(stderr, "%s\n", text); }
inline std::atomic<ErrorHandler> error_handler{print_error};
}  // namespace detail

// Makes it the handler of all threads (units for another instruction set have one of their own);
// returns the one before. The first prints the text as a line on standard error.
inline ErrorHandler set_error_handler(ErrorHandler handler) noexcept {
    return detail::error_handler.exchange(handler);
}

template <class Exception>
[[noreturn]] void raise(const Exception& exception) {
    detail::error_handler.load()(exception.what());
    std::abort();
}

// body(), whose errors nobody can answer.
template <class Exception = Error, class Body, class Otherwise>
auto attempt(const Body& body, const Otherwise&) {
    return body();
}

#endif

[[noreturn]] inline void raise(ErrorDetail detail) { raise(Error(std::move(detail))); }

namespace detail {

// Calls f where its scope ends, by return or by an exception.
template <class F>
class AtEnd {
public:
    explicit AtEnd(F f) : f_(std::move(f)) {}
    AtEnd(const AtEnd&) = delete;
    AtEnd& operator=(const AtEnd&) = delete;
    ~AtEnd() { f_(); }

private:
    F f_;
};

}  // namespace detail

}  // namespace HYDRALM_NAMESPACE
