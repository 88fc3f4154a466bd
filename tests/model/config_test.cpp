// The configuration: its schedule, what is derived from it, and the rules of its fields.
#include "hydralm/model/config_fields.hpp"

#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

using namespace hydralm;
using enum LayerType;

constexpr LayerTypes layers_of(HydraConfig config) { return resolved(config).layer_types; }

constexpr LayerTypes twenty = layers_of({.n_layers = 20, .swa_every = 4, .retrieval_every = 3});
static_assert(twenty.count_of(swa) == 5 && twenty.count_of(retrieval) == 5 &&
              twenty.count_of(deltanet) == 10);
static_assert(twenty[3] == swa && twenty[2] == retrieval && twenty[11] == swa &&
              twenty[0] == deltanet);
static_assert(layers_of({}).count_of(swa) == 3 && layers_of({}).count_of(deltanet) == 9);
static_assert(layers_of({.n_layers = 5, .swa_every = 0}).count_of(deltanet) == 5);
static_assert(layers_of({.n_layers = 5, .swa_every = 1, .retrieval_every = 1}).count_of(swa) == 5);
static_assert(layers_of({.n_layers = 2, .layer_types = {swa, retrieval}, .swa_every = 0}) ==
              LayerTypes{swa, retrieval});

static_assert(resolved({}).head_dim == 64);
static_assert(resolved({.d_model = 20, .n_heads = 2, .head_dim = 16}).head_dim == 16);
static_assert(resolved(resolved({})) == resolved({}));
static_assert(mlp_hidden({}) == 2048);
static_assert(mlp_hidden({.d_model = 100, .mlp_mult = 2.5, .mlp_multiple_of = 1}) == 250);
static_assert(mlp_hidden({.d_model = 33, .mlp_mult = 8.0 / 3.0, .mlp_multiple_of = 8}) == 88);

static_assert(!broken_rule(HydraConfig{}) && ValidConfig<HydraConfig{}>::value);
static_assert(ValidConfig<presets::small>::value && ValidConfig<presets::tiny>::value &&
              ValidConfig<presets::deep>::value && ValidConfig<presets::hybrid>::value &&
              ValidConfig<presets::remembering>::value);
static_assert(ValidConfig<HydraConfig{.d_model = 100, .n_heads = 3, .head_dim = 32}>::value);

struct Misuse {
    std::string rule;  // how its message begins
    std::vector<HydraConfig> configs;
};

const std::vector<Misuse>& misuses() {
    constexpr double infinity = std::numeric_limits<double>::infinity(),
                     nan = std::numeric_limits<double>::quiet_NaN();
    constexpr int most = std::numeric_limits<int>::max(), least = std::numeric_limits<int>::min();
    static const std::vector<Misuse> all{
        {"vocab_size: ", {{.vocab_size = 0}, {.vocab_size = -1}, {.vocab_size = most}}},
        {"pad_token_id: ",
         {{.pad_token_id = -1}, {.pad_token_id = 32000}, {.vocab_size = 5, .pad_token_id = 5}}},
        {"d_model: ", {{.d_model = 0}, {.d_model = least}, {.d_model = most}}},
        {"n_layers: ", {{.n_layers = 0}, {.n_layers = -1}, {.n_layers = 257}, {.n_layers = most}}},
        {"n_heads: ", {{.n_heads = 0}, {.n_heads = -1}}},
        {"head_dim: n_heads must divide", {{.n_heads = 7}, {.d_model = 10, .n_heads = 12}}},
        {"head_dim: must be a multiple",
         {{.head_dim = 7},
          {.head_dim = 6},
          {.head_dim = -4},
          {.head_dim = 4100},
          {.d_model = 24, .n_heads = 12}}},
        {"mlp_mult: ",
         {{.mlp_mult = 0},
          {.mlp_mult = -1},
          {.mlp_mult = infinity},
          {.mlp_mult = nan},
          {.mlp_mult = 1e-9}}},
        {"n_kv_heads: ",
         {{.n_kv_heads = -1},
          {.n_kv_heads = 5},
          {.n_kv_heads = 24},
          {.n_heads = 6, .n_kv_heads = 4}}},
        {"mlp_multiple_of: ", {{.mlp_multiple_of = 0}, {.mlp_multiple_of = -64}}},
        {"dn_short_conv_kernel: ", {{.dn_short_conv_kernel = 0}, {.dn_short_conv_kernel = 65}}},
        {"dn_chunk_size: ", {{.dn_chunk_size = 0}, {.dn_chunk_size = -64}}},
        {"swa_window: ", {{.swa_window = 0}, {.swa_window = most}}},
        {"swa_rope_base: ",
         {{.swa_rope_base = 0}, {.swa_rope_base = infinity}, {.swa_rope_base = nan}}},
        {"layer_types: ",
         {{.layer_types = {swa}}, {.n_layers = 1, .layer_types = {swa, deltanet}}}},
        {"swa_every: ", {{.swa_every = -1}}},
        {"retrieval_every: ", {{.retrieval_every = -1}}},
        {"retrieval_chunk_size: ", {{.retrieval_chunk_size = 0}}},
        {"retrieval_top_k: ", {{.retrieval_top_k = 0}}},
        {"mtp_depth: ", {{.mtp_depth = -1}, {.mtp_depth = 17}}},
        {"mtp_loss_weight: ",
         {{.mtp_loss_weight = -0.1}, {.mtp_loss_weight = nan}, {.mtp_loss_weight = infinity}}},
        {"rms_eps: ", {{.rms_eps = 0}, {.rms_eps = 1e-38}, {.rms_eps = 1e38}, {.rms_eps = nan}}},
        {"initializer_range: ", {{.initializer_range = 0}, {.initializer_range = infinity}}},
        {"max_position_embeddings: ", {{.max_position_embeddings = 0}}},
    };
    return all;
}

std::string message(std::string_view field, std::string_view text) {
    return std::string(field) + ": " + std::string(text);
}

// The messages of all rules.
std::set<std::string> messages() {
    std::set<std::string> all;
    for_each_config_field([&](const auto& field) {
        for (const auto& rule : {field.rule, field.also})
            if (rule) all.insert(message(field.name, rule.text));
    });
    return all;
}

}  // namespace

TEST_CASE("Impossible configurations break their rule, and every rule can be broken", "[config]") {
    std::set<std::string> broken;
    for (const Misuse& misuse : misuses())
        for (const HydraConfig& config : misuse.configs) {
            INFO(misuse.rule);
            const BrokenRule rule = broken_rule(config);
            REQUIRE(rule);
            CHECK(message(rule.field, rule.text).starts_with(misuse.rule));
            broken.insert(message(rule.field, rule.text));
        }
    CHECK(broken == messages());
}

// A case of tests/compile_fail begins with the message the compiler must give: it is the message
// given at run time.
TEST_CASE("A rule says the same at compile time and at run time", "[config]") {
    const std::set<std::string> all = messages();
    for (const std::string& text : all) CHECK(text.find_first_of("'\"\\") == std::string::npos);
    int cases = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(HYDRALM_GOLDEN_DIR "/../compile_fail")) {
        if (!entry.path().filename().string().starts_with("config_")) continue;
        std::ifstream file(entry.path());
        std::string line;
        std::getline(file, line);
        const std::string_view begin = "// expect: hydralm: ";
        INFO(line);
        REQUIRE(line.starts_with(begin));
        CHECK(all.contains(line.substr(begin.size())));
        ++cases;
    }
    CHECK(cases >= 23);
}

TEST_CASE("A list of layers holds 256", "[config]") {
    LayerTypes types;
    for (int i = 0; i < LayerTypes::capacity; ++i) types.push_back(swa);
    CHECK(types.size() == 256);
    for (int i = 0; i < 100; ++i) types.push_back(retrieval);
    CHECK(types.size() == 257);
    CHECK(types.count_of(swa) == 256);
    for (const int n : {256, 257, 356}) CHECK(broken_rule({.n_layers = n, .layer_types = types}));
    CHECK(resolved({.n_layers = 100'000}).layer_types.size() == 257);
    CHECK(name(deltanet) == std::string("deltanet"));
    CHECK(name(swa) == std::string("swa"));
    CHECK(name(retrieval) == std::string("retrieval"));
}
