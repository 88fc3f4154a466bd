// read_ids of the program: ids of the vocabulary, as many as words.
#include <sstream>

#include "target.hpp"
#include "text_input.hpp"

namespace hydralm::fuzz {
namespace {

constexpr int vocab = 50000;

void take(std::string_view input) {
    static MemoryFile file;
    file.hold(input);
    const auto ids = read_ids(file.path(), vocab);
    std::istringstream words{std::string(input)};
    std::string word;
    for (const token_id id : ids) {
        expect(id >= 0 && id < vocab, "every id is of the vocabulary");
        expect(static_cast<bool>(words >> word) && std::stoi(word) == id, "an id is its word");
    }
    expect(!(words >> word), "every word is an id");
}

std::vector<std::string> seeds() {
    return {"0", "1 2 49999", "  12\n7\t\r\n0007 ", "+5\v6\f7",
            "104 101 108 108 111 32 119 111 114 108 100\n"};
}

}  // namespace

const Target target{take, seeds, 1 << 18};

}  // namespace hydralm::fuzz
