// Bits per byte of text: along one stream, and of files behind a text that was read before.
#include <hydralm/inference/score.hpp>
#include <hydralm/inference/streaming.hpp>

#include <chrono>
#include <fstream>
#include <iterator>

#include "measure.hpp"

namespace {

using Model = hydralm::RuntimeModel<float>;
using Tokens = std::vector<hydralm::token_id>;

constexpr double bits_of_a_nat = 1.4426950408889634;

// The bytes of files, one behind the other.
Tokens read(const Json& files) {
    Tokens tokens;
    for (const std::string path : files) {
        std::ifstream file(path, std::ios::binary);
        if (!file) throw std::runtime_error(path + ": cannot be read");
        for (std::istreambuf_iterator<char> at(file), end; at != end; ++at)
            tokens.push_back(static_cast<unsigned char>(*at));
    }
    return tokens;
}

}  // namespace

Json positions(const Json& asked) {
    const Model model =
        hydralm::open<float>(asked.at("model").get<std::string>(), MeasuredKernels{});
    Tokens text = read(asked.at("files"));
    const auto begin = static_cast<std::size_t>(asked.at("begin").get<double>() *
                                                static_cast<double>(text.size()));
    std::ranges::rotate(text, text.begin() + static_cast<std::ptrdiff_t>(begin));
    auto state = model.new_state(Model::prefill_tile, measured_policy(asked));
    hydralm::Scorer<Model> scorer(model);
    Json bits = Json::array();
    std::size_t at = 0;
    for (const std::size_t mark : asked.at("marks")) {
        if (mark > text.size()) throw std::runtime_error("the text ends before the last mark");
        scorer.clear_sums();
        scorer.feed(std::span(text).subspan(at, mark - at), state);
        bits.push_back(scorer.bits_per_token());
        at = mark;
    }
    return {{"bits", bits}};
}

Json after_reading(const Json& asked) {
    const auto start = std::chrono::steady_clock::now();
    const Model model =
        hydralm::open<float>(asked.at("model").get<std::string>(), MeasuredKernels{});
    const Tokens context = read(asked.at("context"));
    auto read_before = model.new_state(Model::prefill_tile, measured_policy(asked));
    if (!context.empty()) model.prefill(context, read_before);
    double bits = 0;
    std::size_t bytes = 0;
    for (const Json& file : asked.at("files")) {
        const Tokens text = read(Json::array({file}));
        auto state = read_before;
        hydralm::Scorer<Model> scorer(model);
        scorer.feed(text, state);
        bits += 8 - bits_of_a_nat * scorer.log_likelihood();  // the first byte counts as it is
        bytes += text.size();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    return {{"bits_per_byte", bits / static_cast<double>(bytes)},
            {"bytes", bytes},
            {"context_bytes", context.size()},
            {"state_bytes", read_before.size()},
            {"resident_bytes", hydralm::resident_bytes()},
            {"seconds", seconds.count()}};
}
