// Qwen3.5 from a GGUF file: what its weights are kept in, what quantised arithmetic does to its
// answers, and what is refused by the key that says it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "hydralm/families/kept_weights.hpp"
#include "hydralm/families/open.hpp"
#include "hydralm/families/stop_ids.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/gguf_writer.hpp"
#include "support/golden.hpp"
#include "support/runtime_blocks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

std::string golden_file(const std::string& name) {
    return HYDRALM_GOLDEN_DIR "/gguf/" + name + ".gguf";
}

std::vector<double> log_probabilities(const double* logits, Index V) {
    const double largest = *std::max_element(logits, logits + V);
    double sum = 0;
    for (Index v = 0; v < V; ++v) sum += std::exp(logits[v] - largest);
    std::vector<double> result(logits, logits + V);
    for (double& x : result) x -= largest + std::log(sum);
    return result;
}

// A golden file with these bytes in place of those that follow a key and its type.
class Changed {
public:
    explicit Changed(const std::string& name) : bytes_(read_text(golden_file(name))) {}

    Changed& u32(const std::string& key, std::uint32_t value) {
        std::memcpy(bytes_.data() + place_of(key) + key.size() + 4, &value, sizeof value);
        return *this;
    }
    Changed& renamed(const std::string& text, const std::string& by) {
        bytes_.replace(place_of(text), text.size(), by);
        return *this;
    }
    void check_refused(const std::vector<std::string>& parts) const {
        const TemporaryDirectory directory;
        write_text(directory / "m.gguf", bytes_);
        std::vector<std::string> all = parts;
        all.emplace_back("m.gguf: ");
        check_error([&] { open<float>(directory / "m.gguf", weights::Float{}, NoKernels{}); }, all);
    }

private:
    std::size_t place_of(const std::string& text) const {
        const std::size_t found = bytes_.find(text);
        if (found == std::string::npos) throw std::runtime_error("no " + text);
        return found;
    }
    std::string bytes_;
};

}  // namespace

TEST_CASE("a GGUF file in the formats it is kept in answers as it should", "[families][gguf]") {
    for (const std::string name : {"f16", "q8_0", "q4_0", "q4_k_m"}) {
        INFO(name);
        const auto model = open<float>(golden_file(name), NoKernels{});
        const GoldenFile expected = read_golden("gguf/" + name + ".expected.safetensors");
        const auto ids = expected["input_ids"].as<token_id>();
        const Index N = static_cast<Index>(ids.size()), V = model.vocab_size();
        auto state = model.new_state();
        std::vector<float> logits(static_cast<std::size_t>(N * V), std::nanf(""));
        model.logits(ids, state, MatrixView<float>(logits.data(), N, V));
        const std::vector<double> found(logits.begin(), logits.end());
        std::vector<double> differences;  // of the eight best at each position
        for (Index n = 0; n < N; ++n) {
            const auto a = log_probabilities(found.data() + n * V, V);
            const auto b = log_probabilities(expected["logits"].values.data() + n * V, V);
            std::vector<std::size_t> order(b.size());
            std::iota(order.begin(), order.end(), 0);
            std::ranges::sort(order, [&](auto i, auto j) { return b[i] > b[j]; });
            for (std::size_t i = 0; i < 8; ++i)
                differences.push_back(std::abs(a[order[i]] - b[order[i]]));
        }
        std::ranges::sort(differences);
        CHECK(differences[differences.size() / 2] < 0.025);  // llama.cpp's: 0.02 to 0.024
        CHECK(differences.back() < 0.4);

        auto decoding = model.new_state();
        auto next = model.prefill(ids, decoding);
        for (const token_id wanted : expected["greedy_ids"].as<token_id>()) {
            const auto id = static_cast<token_id>(std::ranges::max_element(next) - next.begin());
            REQUIRE(id == wanted);
            next = model.step(id, decoding);
        }
    }
}

TEST_CASE("what became of the weights of a GGUF file is said", "[families][gguf]") {
    const auto kept = [](const std::string& name, auto... policy) {
        return kept_weights(open<float>(golden_file(name), policy..., NoKernels{}),
                            golden_file(name));
    };
    for (const std::string name : {"q8_0", "q4_0"}) {
        // In heads of 16 columns, which lie in another order there, blocks of o_proj are cut.
        std::size_t blocks = 0;
        for (const KeptWeights& w : kept(name)) {
            INFO(w.parameter);
            CHECK(w.largest_error == 0);
            CHECK(w.rms_error == 0);
            const bool cut = w.parameter.ends_with("mixer.o_proj.weight") &&
                             w.parameter != "blocks.3.mixer.o_proj.weight";
            CHECK((w.kept == weights::Format::scalar || !cut));
            if (w.kept == weights::Format::q8) ++blocks;
        }
        CHECK(blocks == 2 + 4 * 2 + 4 * 2 + 1);
    }
    double largest = 0;
    for (const KeptWeights& w : kept("q4_k_m")) {
        INFO(w.parameter);
        const bool in_blocks = w.kept == weights::Format::q8;
        CHECK(in_blocks == (w.largest_error > 0));
        CHECK(w.rms_error <= w.largest_error);
        largest = std::max(largest, w.largest_error);
        if (w.parameter == "blocks.1.mixer.qkv_proj.weight") CHECK(w.stored == "Q4_K and Q6_K");
        if (w.parameter == "blocks.0.mixer.decay_log") CHECK(w.stored == "F32");
    }
    CHECK((largest > 1e-6 && largest < 0.01));
    for (const KeptWeights& w : kept("q4_k_m", weights::Float{})) CHECK(w.largest_error == 0);
    for (const KeptWeights& w : kept("f16")) CHECK(w.kept == weights::Format::scalar);
    CHECK(stop_ids(golden_file("q8_0"), 320) == std::vector<token_id>{309});
}

TEST_CASE("a GGUF file describes the model that its folder does", "[families][gguf]") {
    const Checkpoint checkpoint(golden_file("q8_0"));
    const auto published = families::published(checkpoint);
    REQUIRE(published);
    const HybridShape shape = published->family->shape(published->config());
    CHECK(shape.family == "qwen3_5_text");
    CHECK(shape.vocab_size == 320);
    CHECK(shape.layers.size() == 4);
    CHECK_FALSE(shape.ties_head);
    REQUIRE(shape.mtp);
    CHECK(shape.mtp->rotary_dim == 8);
    const auto& linear = *shape.layers[0].delta_net();
    CHECK((linear.key_heads == 2 && linear.value_heads == 4 && linear.value_dim == 16));
    CHECK(shape.layers[3].attention() != nullptr);
}

TEST_CASE("a GGUF file of a model that is not read is refused by the key", "[families][gguf]") {
    const auto u32 = [](const char* key, std::uint32_t value, const std::string& message) {
        Changed("q8_0").u32(key, value).check_refused({std::string(key) + ": " + message});
    };
    Changed("f16")
        .renamed("qwen35", "llama4")
        .check_refused({"general.architecture: expected qwen35, found llama4"});
    Changed("f16")
        .renamed("general.architecture", "general.architectura")
        .check_refused({"general.architecture: expected a text, found none"});
    u32("qwen35.block_count", 0, "expected a whole number from 1 to 2^24, found 0");
    u32("qwen35.block_count", 1000, "expected at most 256, found 999");
    u32("qwen35.nextn_predict_layers", 2, "expected 0 or 1 of block_count, found 2");
    u32("qwen35.attention.value_length", 24, "expected 16, as key_length, found 24");
    u32("qwen35.attention.head_count", 3, "expected a multiple of 2, found 3");
    u32("qwen35.rope.dimension_count", 17, "expected at most key_length, 16, found 17");
    u32("qwen35.rope.dimension_count", 7, "expected an even number of elements");
    u32("qwen35.ssm.inner_size", 63, "expected a multiple of 4, found 63");
    u32("qwen35.ssm.time_step_rank", 1, "expected a multiple of 2, found 1");
    u32("general.quantization_version", 1, "expected 2, found 1");
    for (const char* const key :
         {"qwen35.embedding_length", "qwen35.rope.freq_base", "qwen35.ssm.state_size"}) {
        std::string other = key;
        other.back() = '_';
        Changed("f16").renamed(key, other).check_refused({key, "found none"});
    }
    const auto refused = [](GgufWriter& writer, const std::string& message) {
        const TemporaryDirectory directory;
        write_text(directory / "m.gguf", writer.file());
        check_error([&] { families::published(Checkpoint(directory / "m.gguf")); }, {message});
    };
    GgufWriter split, window, scaled, experts;
    refused(split.text("general.architecture", "qwen35").u32("split.count", 3),
            "split.count: expected 1: one file, found 3");
    refused(
        window.text("general.architecture", "qwen35").u32("qwen35.attention.sliding_window", 128),
        "qwen35.attention.sliding_window: expected none, found 128");
    refused(scaled.text("general.architecture", "qwen35").text("qwen35.rope.scaling.type", "yarn"),
            "qwen35.rope.scaling.type: expected none, found yarn");
    refused(experts.text("general.architecture", "qwen35").u32("qwen35.expert_count", 4),
            "qwen35.expert_count: expected none, found 4");
}
