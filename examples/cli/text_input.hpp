// Reading what a command is given: files of ids and files of text.
#pragma once

#include <hydralm/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "program_tokenizer.hpp"

// The bytes of a file or a pipe. Throws Error when it is missing, may not be read, or is a
// directory.
inline std::ifstream open_input(const std::string& path) {
    std::error_code unknown;
    const bool directory = std::filesystem::is_directory(path, unknown);
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (directory || !file)
        throw hydralm::Error(
            {.file = path,
             .expected = "a readable file",
             .found = directory ? "a directory" : std::system_category().message(errno),
             .fix = "check the path and its permissions"});
    return file;
}

// Throws Error when reading went wrong.
inline void expect_readable(const std::ifstream& file, const std::string& path) {
    if (file.bad())
        throw hydralm::Error({.file = path,
                              .expected = "readable bytes",
                              .found = "a read error",
                              .fix = "check the disk"});
}

// U+FEFF, which some editors write before a text.
inline constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

// Whitespace-separated decimal integers in [0, vocab). path: for messages.
inline std::vector<hydralm::token_id> parse_ids(std::istream& file, const std::string& path,
                                                int vocab) {
    std::vector<hydralm::token_id> ids;
    constexpr std::size_t longest = 40;  // a word that goes on behind it is no id
    for (std::string word; file >> std::setw(longest + 1) >> word;) {
        std::size_t used = 0;
        long long id = -1;
        try {
            id = std::stoll(word, &used);
        } catch (const std::exception&) {
            used = 0;
        }
        if (ids.empty() && word.starts_with(byte_order_mark))
            throw hydralm::Error({.file = path,
                                  .field = "id 0",
                                  .expected = "an integer in [0, " + std::to_string(vocab) + ")",
                                  .found = "a byte-order mark before it",
                                  .fix = "save the file as plain text without one"});
        if (used != word.size() || word.size() > longest || id < 0 || id >= vocab)
            throw hydralm::Error({.file = path,
                                  .field = "id " + std::to_string(ids.size()),
                                  .expected = "an integer in [0, " + std::to_string(vocab) + ")",
                                  .found = "'" + word.substr(0, longest) + "'",
                                  .fix = used == word.size()
                                             ? "use ids of the vocabulary the model was made for"
                                             : "write whitespace-separated decimal integers"});
        ids.push_back(static_cast<hydralm::token_id>(id));
    }
    if (file.bad() || ids.empty())
        throw hydralm::Error({.file = path,
                              .field = "ids",
                              .expected = "at least one",
                              .found = file.bad() ? "a read error" : "none",
                              .fix = "write whitespace-separated decimal integers"});
    return ids;
}

// A file of such.
inline std::vector<hydralm::token_id> read_ids(const std::string& path, int vocab) {
    std::ifstream file = open_input(path);
    return parse_ids(file, path, vocab);
}

// All bytes of a file.
inline std::string read_text(const std::string& path) {
    std::ifstream file = open_input(path);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    expect_readable(file, path);
    return text;
}

// A text file as tokens, a chunk at a time. As bytes, memory does not grow with the file; ids of
// another tokenizer are all there from the beginning.
class TextFile {
public:
    // Throws Error, too, when the tokenizer has more ids than the model, and for a file of nothing.
    TextFile(const std::string& path, const ProgramTokenizer& tokenizer, int vocab)
        : path_(path), file_(open_input(path)), is_bytes_(tokenizer.is_bytes()) {
        tokenizer.expect_fits(vocab);
        if (file_.peek() == std::ifstream::traits_type::eof())
            throw hydralm::Error({.file = path,
                                  .field = "text",
                                  .expected = "at least one byte",
                                  .found = file_.bad() ? "a read error" : "none",
                                  .fix = "give a text"});
        if (!is_bytes_)
            ids_ = tokenizer.encode(std::string{std::istreambuf_iterator<char>(file_), {}});
        expect_readable(file_, path_);
    }

    // Tokens of the file; as many as there could be when it has no size (a pipe, a device).
    std::int64_t size() {
        if (!is_bytes_) return std::ssize(ids_);
        std::error_code unknown;
        if (!std::filesystem::is_regular_file(path_, unknown))
            return std::numeric_limits<std::int64_t>::max();
        const auto here = file_.tellg();
        file_.seekg(0, std::ios::end);
        const auto end = file_.tellg();
        file_.clear();
        if (end < 0) return std::numeric_limits<std::int64_t>::max();
        file_.seekg(here);
        return static_cast<std::int64_t>(end);
    }

    // Fills tokens as far as the file goes; 0 at its end.
    std::size_t read(std::span<hydralm::token_id> tokens) {
        if (!is_bytes_) {
            const std::size_t n = std::min(tokens.size(), ids_.size() - place_);
            std::copy_n(ids_.begin() + static_cast<std::ptrdiff_t>(place_), n, tokens.begin());
            place_ += n;
            return n;
        }
        bytes_.resize(tokens.size());
        file_.read(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
        const auto n = static_cast<std::size_t>(file_.gcount());
        expect_readable(file_, path_);
        for (std::size_t i = 0; i < n; ++i) tokens[i] = static_cast<unsigned char>(bytes_[i]);
        return n;
    }

    // What is left.
    std::vector<hydralm::token_id> read_all() {
        std::vector<hydralm::token_id> all, some(65536);
        for (std::size_t n = read(some); n > 0; n = read(some))
            all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(n));
        return all;
    }

    // To the first token again. Throws Error for a pipe.
    void rewind() {
        place_ = 0;
        file_.clear();
        if (is_bytes_ && !file_.seekg(0))
            throw hydralm::Error({.file = path_,
                                  .expected = "a file that can be read from its beginning again",
                                  .found = "a pipe",
                                  .fix = "leave out --repeat, or give a file"});
    }

private:
    std::string path_;
    std::ifstream file_;
    bool is_bytes_;
    std::vector<char> bytes_;
    std::vector<hydralm::token_id> ids_;  // of another tokenizer
    std::size_t place_ = 0;               // in ids_
};
