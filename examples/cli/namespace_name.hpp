// The namespace of a header's model, named as the file is.
#pragma once

#include <hydralm/core/error.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace namespace_name {

inline constexpr std::string_view keywords =
    " alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t "
    "char32_t char8_t class co_await co_return co_yield compl concept const const_cast "
    "consteval constexpr constinit continue decltype default delete do double dynamic_cast "
    "else enum explicit export extern false float for friend goto if inline int long mutable "
    "namespace new noexcept not not_eq nullptr operator or or_eq private protected public "
    "register reinterpret_cast requires return short signed sizeof static static_assert "
    "static_cast struct switch template this thread_local throw true try typedef typeid "
    "typename union unsigned using virtual void volatile wchar_t while xor xor_eq ";

// What is wrong with a name, empty if nothing is. That a C library has a function of it, as of
// time, or the compiler a macro, as of linux, the compiler of the header says.
inline std::string_view fault_of(const std::string& name) {
    constexpr const char* letters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    if (name.empty() || (name[0] >= '0' && name[0] <= '9') ||
        name.find_first_not_of(letters) != std::string::npos)
        return "no identifier";
    if (keywords.find(' ' + name + ' ') != std::string_view::npos) return "a keyword of C++";
    if (name == "hydralm") return "the library's namespace";
    if (name == "main" || name == "std" || name[0] == '_' || name.find("__") != std::string::npos)
        return "reserved in C++";
    return {};
}

// Throws Error for a file that is no header or whose namespace no program can have.
inline std::string of_header(const std::string& header) {
    const std::filesystem::path path(header);
    const std::string name = path.stem().string();
    const std::string_view fault = path.extension() == ".hpp" ? fault_of(name) : "no header";
    if (!fault.empty())
        throw hydralm::Error({.file = header,
                              .field = "--out",
                              .expected = "NAME.hpp, where NAME becomes a namespace of the program",
                              .found = path.filename().string() + ", " + std::string(fault),
                              .fix = "give the header another name"});
    return name;
}

}  // namespace namespace_name
