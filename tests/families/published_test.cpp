// Published models in tiny checkpoints of their own layouts: what they compute, in every form, and
// what is refused.
#include <algorithm>
#include <filesystem>
#include <vector>

#include "hydralm/families/open.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/runtime_blocks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

const std::string folder = HYDRALM_GOLDEN_DIR "/published/";

// Without kernels for models of ours.
template <class T>
RuntimeModel<T> open_published(const std::filesystem::path& path) {
    return open<T>(path, weights::Float{}, NoKernels{});
}

// A GGUF file has its ε in F32, and the decay after an exponential in F32.
template <class T>
double bound(const std::string& name) {
    return sizeof(T) == 4 ? 1e-4 : name.ends_with(".gguf") ? 1e-6 : 1e-9;
}
// States and hidden values of the vectors are kept in F32.
template <class T>
double stored_bound(const std::string& name) {
    return std::max(bound<T>(name), 1e-7);
}

// A folder, or a GGUF file.
std::filesystem::path checkpoint_of(const std::string& name) {
    return name.ends_with(".gguf") ? HYDRALM_GOLDEN_DIR "/gguf/" + name : folder + name;
}
std::string expected_of(const std::string& name) {
    return name.ends_with(".gguf")
               ? "gguf/" + name.substr(0, name.size() - 5) + ".expected.safetensors"
               : "published/" + name + "/expected.safetensors";
}

// A checkpoint as a model, and what it should compute.
template <class T>
struct Published {
    std::string name;
    RuntimeModel<T> model = open_published<T>(checkpoint_of(name));
    GoldenFile expected = read_golden(expected_of(name));
    std::vector<token_id> ids = expected["input_ids"].template as<token_id>();
    Index N = static_cast<Index>(ids.size()), V = model.vocab_size();

    explicit Published(std::string of) : name(std::move(of)) {}

    template <class Feed>
    void check_logits(const std::string& form, const Feed& feed) const {
        auto state = model.new_state();
        std::vector<T> logits(static_cast<std::size_t>(N * V), std::numeric_limits<T>::quiet_NaN());
        feed(state, MatrixView<T>(logits.data(), N, V));
        check_close(logits, expected["logits"].values, bound<T>(name), name + ", " + form);
    }
    void check_forms() const {
        check_logits("prefill",
                     [&](auto& state, MatrixView<T> out) { model.logits(ids, state, out); });
        check_logits("recurrent", [&](auto& state, MatrixView<T> out) {
            model.logits(ids, state, out, Form::recurrent);
        });
        for (const Index piece : {Index{7}, Index{16}})
            check_logits("pieces of " + std::to_string(piece), [&](auto& state, MatrixView<T> out) {
                for (Index first = 0; first < N; first += piece) {
                    const Index n = std::min(piece, N - first);
                    model.logits(std::span(ids).subspan(static_cast<std::size_t>(first),
                                                        static_cast<std::size_t>(n)),
                                 state, out.middle_rows(first, n));
                }
            });
        check_logits("step", [&](auto& state, MatrixView<T> out) {
            for (Index n = 0; n < N; ++n) {
                const auto logits = model.step(ids[static_cast<std::size_t>(n)], state);
                std::copy(logits.begin(), logits.end(), out.row(n));
            }
        });
    }
    std::vector<T> final_hidden() const {
        auto state = model.new_state();
        std::vector<T> hidden(static_cast<std::size_t>(N * model.d_model()));
        model.run(ids, state, Form::parallel, [&](MatrixView<const T> rows, std::size_t first) {
            std::copy_n(rows.data(), rows.rows() * rows.cols(),
                        hidden.data() + static_cast<Index>(first) * rows.cols());
        });
        return hidden;
    }
    void check_decoding() const {
        auto state = model.new_state();
        auto logits = model.prefill(ids, state);
        for (const token_id wanted : expected["greedy_ids"].template as<token_id>()) {
            const auto id = static_cast<token_id>(std::max_element(logits.begin(), logits.end()) -
                                                  logits.begin());
            REQUIRE(id == wanted);
            logits = model.step(id, state);
        }
        check_close(logits, expected["logits_after_greedy"].values, bound<T>(name),
                    name + ", after decoding");
        if (!expected.tensors.contains("state_after_greedy.0.S")) return;
        std::size_t arrays = 0;
        model.export_state(state, [&](const std::string& field, std::span<const Index> shape,
                                      const std::vector<T>& values) {
            const auto& tensor = expected["state_after_greedy." + field];
            CHECK(std::ranges::equal(shape, tensor.shape));
            check_close(values, tensor.values, stored_bound<T>(name), name + ", state " + field);
            ++arrays;
        });
        CHECK(arrays == 2 * static_cast<std::size_t>(model.layers));
    }
};

template <class T>
void check_all(const std::string& name) {
    INFO(name);
    const Published<T> published(name);
    published.check_forms();
    check_close(published.final_hidden(), published.expected["hidden_final"].values,
                stored_bound<T>(name), name + ", hidden");
    published.check_decoding();
}

}  // namespace

TEMPLATE_TEST_CASE("published models compute what they should, in every form", "[families]", float,
                   double) {
    for (const char* const name :
         {"qwen35_text", "qwen35_untied_odd", "qwen35_composite_sharded", "qwen35_composite_bf16",
          "qwen35_real_heads", "qwen3next_dense", "qwen3next_dense_r3", "olmo_hybrid_nope",
          "olmo_hybrid_rope_gqa", "fla_gdn_pure", "fla_gdn_hybrid", "fla_gdn_plain",
          "fla_gdn_sigmoid", "fla_kda_pure", "f16.gguf", "q8_0.gguf", "q4_0.gguf", "q4_k_m.gguf"})
        check_all<TestType>(name);
}

TEMPLATE_TEST_CASE(
    "the module of multi-token prediction of a published model predicts what it should",
    "[families]", float, double) {
    using T = TestType;
    for (const char* const name :
         {"qwen35_composite_sharded", "qwen35_composite_bf16", "q8_0.gguf"}) {
        const Published<T> published(name);
        const auto& model = published.model;
        const HybridMtp<T> mtp = open_mtp<T>(checkpoint_of(name));
        const Index N = published.N - 1, d = model.d_model();
        std::vector<T> hidden = published.final_hidden(), embedded(hidden.size());
        for (Index n = 0; n < N; ++n)
            model.weights().embed.copy_row(published.ids[static_cast<std::size_t>(n + 1)],
                                           embedded.data() + n * d);
        for (const Index piece : {N, Index{7}, Index{1}}) {
            StreamMemory memory = mtp.new_memory();
            const Form form = piece == 1 ? Form::recurrent : Form::parallel;
            AlignedBuffer<std::byte> workspace(scratch_bytes(mtp, {1, piece, form}));
            std::vector<T> out(static_cast<std::size_t>(N * d)),
                logits(static_cast<std::size_t>(N * published.V));
            for (Index first = 0; first < N; first += piece) {
                const Index n = std::min(piece, N - first);
                const auto rows = [&](std::vector<T>& all) {
                    return MatrixView<T>(all.data() + first * d, n, d);
                };
                memory.reserve(n);
                Arena arena(workspace.span());
                const Stream stream = memory.stream();
                mtp.forward(rows(hidden), rows(embedded), Streams(&stream, 1), n, rows(out), form,
                            arena);
                memory.advance(n);
            }
            model.head(MatrixView<const T>(out.data(), N, d), {logits.data(), N, published.V});
            check_close(logits, published.expected["mtp_logits"].values, bound<T>(name),
                        std::string(name) + ", mtp in pieces of " + std::to_string(piece));
        }
    }
    check_error([] { open_mtp<float>(folder + "qwen35_text"); }, {"mtp_num_hidden_layers"});
    check_error([] { open_mtp<float>(folder + "fla_gdn_pure"); }, {"mtp_num_hidden_layers"});
    check_error([] { open_mtp<float>(checkpoint_of("f16.gguf")); },
                {"f16.gguf: qwen35.nextn_predict_layers: expected 1"});
}

TEST_CASE("windows of a published model take the same memory however long the stream",
          "[families]") {
    const auto model = open_published<float>(folder + "fla_gdn_hybrid");
    std::vector<token_id> text(2000);
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<token_id>(i * 37 % 191);
    auto whole = model.new_state(), pieces = model.new_state();
    model.prefill(std::span(text).first(512), whole);
    const Index bytes = whole.size();
    model.prefill(std::span(text).subspan(512), whole);
    CHECK(whole.size() == bytes);
    for (std::size_t first = 0; first < text.size(); first += 256)
        model.prefill(
            std::span(text).subspan(first, std::min<std::size_t>(text.size() - first, 256)),
            pieces);
    CHECK(pieces.size() <= bytes);
    for (const token_id token : text) {
        const auto snapshot = pieces;
        REQUIRE(same_bits(model.step(token, whole), model.step(token, pieces)));
        if (token == 5) pieces = snapshot, model.step(token, pieces);
    }
    CHECK(whole.size() == bytes);
}

TEST_CASE("published models that compute something else are refused by the field", "[families]") {
    const std::vector<std::pair<std::string, std::string>> cases{
        {"moe", "model_type"},
        {"next_moe", "num_experts: expected 0: dense MLPs, found 4, layer 3 is sparse"},
        {"yarn", "rope_parameters.rope_type: expected default, found \"yarn\""},
        {"fp8", "quantization_config"},
        {"gelu", "hidden_act: expected silu, found gelu"},
        {"no_output_gate", "attn_output_gate: expected true, found false"},
        {"sigmoid_gate", "output_gate_type: expected silu, found sigmoid"},
        {"bias", "attention_bias: expected false, found true"},
        {"layer_kind", "layer_types[3]"},
        {"short_layer_list", "layer_types: expected a list of 4, found 2 of 4"},
        {"heads", "linear_num_value_heads: expected a multiple of 2, found 3"},
        {"kimi",
         "model_type: expected one of qwen3_5, qwen3_next, olmo_hybrid, gated_deltanet, kda"},
        {"qwen4", "model_type"},
        {"dense_llama", "found llama"},
        {"fla_attnres", "attnres_block_size"},
        {"fla_powlu", "hidden_act"}};
    for (const auto& [name, message] : cases)
        check_error(
            [&] {
                families::shape_from_json(read_text(folder + "refused/" + name + ".json"), name);
            },
            {name + ": ", message});
}

TEST_CASE("KDA with another gate than it has here is refused by the field", "[families]") {
    const std::string name = "fla_kda_pure/config.json", text = read_text(folder + name);
    const auto refused = [&](const std::string& field, const std::string& value,
                             const std::string& message) {
        const auto at = text.find("\"" + field + "\":");
        REQUIRE(at != std::string::npos);
        const auto end = text.find_first_of(",\n", at);
        const std::string changed =
            text.substr(0, at) + "\"" + field + "\": " + value + text.substr(end);
        check_error([&] { families::shape_from_json(changed, name); }, {name + ": " + message});
    };
    refused("safe_gate", "true", "safe_gate: expected none, found true");
    refused("lower_bound", "-5.0", "lower_bound: expected none, found -5.0");
    refused("head_dim", "516", "head_dim: expected at most 512, found 516");
    refused("head_dim", "18", "head_dim: expected a multiple of 4, found 18");
    refused("num_v_heads", "3", "num_v_heads: expected a multiple of 2, found 3");
    refused("attnres_block_size", "8", "attnres_block_size: expected none, found 8");
}

TEST_CASE("a rotary base that is null or absent turns nothing in OLMo-Hybrid", "[families]") {
    const auto turned = [](const std::string& name) {
        const auto shape =
            families::shape_from_json(read_text(folder + name + "/config.json"), name);
        return shape.layers.back().attention()->rotary_dim;
    };
    CHECK(turned("olmo_hybrid_nope") == 0);
    CHECK(turned("olmo_hybrid_rope_gqa") == 16);
}

TEST_CASE("a published folder that does not fit its config is refused by the tensor",
          "[families]") {
    const TemporaryDirectory directory;
    const auto copy = [&](const std::string& from, const std::string& to) {
        std::filesystem::copy_file(folder + from, directory / to,
                                   std::filesystem::copy_options::overwrite_existing);
    };
    copy("qwen35_text/model.safetensors", "model.safetensors");
    copy("qwen35_untied_odd/config.json", "config.json");
    check_error([&] { open_published<float>(directory.path()); },
                {"model.safetensors", "model.embed_tokens.weight"});
    copy("fla_gdn_pure/config.json", "config.json");
    check_error([&] { open_published<float>(directory.path()); },
                {"model.safetensors: model.embeddings.weight"});
    copy("refused/gelu.json", "config.json");
    check_error([&] { open_published<float>(directory.path()); }, {"config.json: hidden_act"});
}

TEST_CASE("states of a published model are saved, and its weights are not", "[families]") {
    for (const char* const name : {"qwen35_text", "fla_gdn_hybrid"}) {
        const auto model = open_published<float>(folder + name);
        const std::vector<token_id> tokens{5, 9, 3, 100, 7, 11, 2, 8};
        auto state = model.new_state();
        model.prefill(tokens, state);
        const TemporaryDirectory directory;
        save_state(model, state, directory / "s.state");
        auto loaded = load_state(model, directory / "s.state");
        const auto a = model.step(4, state), b = model.step(4, loaded);
        CHECK(same_bits(a, b));
        check_error([&] { save(model, directory / "m.safetensors"); }, {"save_published"});
        check_error(
            [&] {
                load_state(open_published<float>(folder + "fla_gdn_pure"), directory / "s.state");
            },
            {"s.state"});
    }
}

TEST_CASE("What a published checkpoint has in BF16 stays so, unless asked otherwise",
          "[families]") {
    const auto path = folder + "qwen35_composite_bf16";
    const auto wide = open_published<float>(path);
    const auto stored = open<float>(path, NoKernels{});
    CHECK(stored.weight_bytes < wide.weight_bytes);
    const std::vector<token_id> tokens{1, 2, 3, 4, 5};
    auto a = stored.new_state();
    auto b = wide.new_state();
    check_close(stored.prefill(tokens, a), wide.prefill(tokens, b), 0.25, "bf16");
}

TEST_CASE("tokens of a published model are taken back, bit for bit", "[families]") {
    constexpr Index past = 11, N = 5;
    for (const char* const name :
         {"qwen35_text", "olmo_hybrid_nope", "fla_gdn_hybrid", "fla_kda_pure"}) {
        const Published<float> published(name);
        const auto& model = published.model;
        const auto& tokens = published.ids;
        auto start = model.new_state();
        model.prefill(std::span(tokens).first(past), start);
        AlignedBuffer<std::byte> memory(model.stack.history_bytes(N)),
            workspace(model.workspace_bytes(1, N, Form::recurrent));
        for (Index kept = 0; kept <= N; ++kept) {
            auto expected = start, state = start;
            for (Index n = 0; n < kept; ++n)
                model.step(tokens[static_cast<std::size_t>(past + n)], expected);
            state.reserve(N);
            Arena history(memory.span()), arena(workspace.span());
            Stream stream = state.stream();
            stream.history = &history;
            model.forward(tokens.data() + past, Streams(&stream, 1), N, Form::recurrent, arena);
            Arena again(memory.span());
            model.stack.rollback(stream, N, kept, again);
            state.advance(kept);
            INFO(name << ", " << kept << " kept");
            CHECK(same_bits(state.bytes(), expected.bytes()));
            CHECK(same_bits(model.step(1, state), model.step(1, expected)));
        }
    }
}
