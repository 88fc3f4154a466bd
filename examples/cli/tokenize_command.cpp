// tokenize: a text as ids, ids as a text; many of either, a line each.
#include <hydralm/io/json_text.hpp>
#include <hydralm/io/utf8_stream.hpp>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "options.hpp"
#include "standard_streams.hpp"
#include "text_input.hpp"

namespace {

using Json = nlohmann::json;
using Ids = std::vector<hydralm::token_id>;

constexpr int any_id = std::numeric_limits<hydralm::token_id>::max();

void print_line(const std::string& line) {
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::fputc('\n', stdout);
}

std::string text_of(const ProgramTokenizer& tokenizer, const Ids& ids) {
    hydralm::Utf8Stream utf8;
    std::string text(utf8.push(tokenizer.decode(ids)));
    return text += utf8.flush();
}

std::string separated(const Ids& ids) {
    std::string line;
    for (const auto id : ids) (line += line.empty() ? "" : " ") += std::to_string(id);
    return line;
}

bool is_list_of_ids(const Json& json) {
    return json.is_array() && std::ranges::all_of(json, [](const Json& id) {
               return id.is_number_unsigned() && id.get<std::uint64_t>() <= std::uint64_t{any_id};
           });
}

// One JSON string a line as one array of ids, or the other way round.
void tokenize_lines(const Options& o, const ProgramTokenizer& tokenizer) {
    std::ifstream file = open_input(o.lines);
    std::size_t number = 0;
    for (std::string line; std::getline(file, line);) {
        const std::string field = "line " + std::to_string(++number);
        const Json json = hydralm::parse_json(line, o.lines, field);
        if (o.decode ? !is_list_of_ids(json) : !json.is_string())
            throw hydralm::Error({.file = o.lines,
                                  .field = field,
                                  .expected = o.decode ? "a JSON array of ids" : "a JSON string",
                                  .found = line.substr(0, 80),
                                  .fix = "write one on each line"});
        print_line(o.decode ? Json(text_of(tokenizer, json.get<Ids>())).dump()
                            : Json(tokenizer.encode(json.get_ref<const std::string&>())).dump());
    }
    expect_readable(file, o.lines);
}

}  // namespace

void tokenize(const Options& o) {
    const ProgramTokenizer tokenizer =
        o.tokenizer.empty() ? ProgramTokenizer::of(o.model) : ProgramTokenizer(o.tokenizer);
    if (!o.lines.empty()) {
        tokenize_lines(o, tokenizer);
    } else if (!o.decode) {
        print_line(separated(tokenizer.encode(o.text.empty() ? o.prompt : read_text(o.text))));
    } else if (o.text.empty()) {
        std::istringstream ids(o.prompt);
        print_line(text_of(tokenizer, parse_ids(ids, "--prompt", any_id)));
    } else {
        print_line(text_of(tokenizer, read_ids(o.text, any_id)));
    }
    flush_output();
}
