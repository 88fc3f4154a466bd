// The table of parameters is the file format's, and values go in and come out bit for bit.
#include <bit>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;
using enum LayerType;

struct Entry {
    std::string name;
    std::vector<Index> shape;
    bool operator==(const Entry&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Entry& entry) {
    out << entry.name;
    for (const Index extent : entry.shape) out << ' ' << extent;
    return out;
}

// File order, written out: embedding, blocks, final norm, untied_head head.
std::vector<Entry> expected_table(const HydraConfig& c, const std::vector<LayerType>& layers,
                                  Index h) {
    const Index V = c.vocab_size, d = c.d_model, H = c.n_heads, I = H * c.head_dim,
                K = c.dn_short_conv_kernel;
    std::vector<Entry> table{{"embed.weight", {V, d}}};
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const std::string block = "blocks." + std::to_string(i) + ".", mixer = block + "mixer.";
        table.push_back({block + "norm1.weight", {d}});
        table.push_back({mixer + "qkv_proj.weight", {3 * I, d}});
        if (layers[i] == deltanet) {
            table.push_back({mixer + "ab_proj.weight", {2 * H, d}});
            table.push_back({mixer + "ab_proj.bias", {2 * H}});
            table.push_back({mixer + "short_conv.conv.weight", {3 * I, 1, K}});
            table.push_back({mixer + "short_conv.conv.bias", {3 * I}});
            if (c.dn_use_gate) table.push_back({mixer + "gate_proj.weight", {I, d}});
        }
        table.push_back({mixer + "o_proj.weight", {d, I}});
        table.push_back({block + "norm2.weight", {d}});
        table.push_back({block + "mlp.w_fused.weight", {2 * h, d}});
        table.push_back({block + "mlp.w_down.weight", {d, h}});
    }
    table.push_back({"norm_f.weight", {d}});
    if (!c.tie_embeddings) table.push_back({"lm_head.weight", {V, d}});
    return table;
}

template <HydraConfig config>
void check_table(const std::vector<LayerType>& layers, Index hidden) {
    using Model = HydraLM<config>;
    std::vector<Entry> table;
    Index count = 0;
    for (const ParameterInfo& info : Model::parameters) {
        table.push_back({std::string(info.name()), {info.shape().begin(), info.shape().end()}});
        count += info.size();
    }
    CHECK(table == expected_table(Model::config, layers, hidden));
    CHECK(Model::parameter_count == count);
}

constexpr HydraConfig tied_head{.vocab_size = 11,
                                .d_model = 12,
                                .n_layers = 12,
                                .n_heads = 2,
                                .head_dim = 8,
                                .mlp_multiple_of = 1};
constexpr HydraConfig untied_head{.vocab_size = 11,
                                  .d_model = 12,
                                  .n_layers = 2,
                                  .n_heads = 3,
                                  .mlp_mult = 2.0,
                                  .mlp_multiple_of = 16,
                                  .layer_types = {swa, deltanet},
                                  .tie_embeddings = false};
constexpr HydraConfig ungated{.vocab_size = 11,
                              .d_model = 12,
                              .n_layers = 1,
                              .n_heads = 1,
                              .mlp_multiple_of = 7,
                              .dn_short_conv_kernel = 1,
                              .dn_use_gate = false};

// V·d + L·(2d + 3·d·h + 3I·d + d·I) + delta layers·(2H·d + 2H + 3I·K + 3I + I·d) + d, by hand for
// HydraConfig{}.
static_assert(HydraLM<HydraConfig{}>::parameter_count ==
              32000 * 768 + 12 * (2 * 768 + 3 * 768 * 2048 + 4 * 768 * 768) +
                  9 * (24 * 768 + 24 + 3 * 768 * 5 + 768 * 768) + 768);

}  // namespace

TEST_CASE("The table of parameters is the file format's", "[parameters]") {
    check_table<tied_head>({deltanet, deltanet, deltanet, swa, deltanet, deltanet, deltanet, swa,
                            deltanet, deltanet, deltanet, swa},
                           32);
    check_table<untied_head>({swa, deltanet}, 32);
    check_table<ungated>({deltanet}, 35);
}

TEST_CASE("Roles say what a tensor is for", "[parameters]") {
    for (const ParameterInfo& info : HydraLM<untied_head>::parameters) {
        const auto name = info.name();
        using enum ParameterRole;
        const auto ends_with = [&](std::string_view end) { return name.ends_with(end); };
        INFO(name);
        CHECK(info.law.role ==
              (name == "embed.weight"                                        ? embedding
               : name == "lm_head.weight"                                    ? head
               : ends_with("qkv_proj.weight") || ends_with("w_fused.weight") ? projection
               : ends_with("o_proj.weight") || ends_with("w_down.weight")    ? residual_projection
               : ends_with("ab_proj.weight")                                 ? gate
               : ends_with("gate_proj.weight")                               ? output_gate
               : ends_with("ab_proj.bias")                                   ? decay_bias
               : ends_with("conv.weight")                                    ? convolution
               : ends_with("conv.bias")                                      ? convolution
                                                                             : norm));
        CHECK(info.parts.count == (ends_with("qkv_proj.weight")  ? 3
                                   : ends_with("w_fused.weight") ? 2
                                                                 : 1));
    }
}

template <class Model>
void check_round_trip() {
    using T = typename Model::Scalar;
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    Model model;
    std::vector<T> given, taken;
    Random random(1);
    // Any bits at all, NaNs, infinities, −0 and subnormals among them.
    model.set_parameters([&](const ParameterInfo&, std::span<T> values) {
        for (T& value : values)
            given.push_back(value = std::bit_cast<T>(static_cast<Bits>(random())));
    });
    std::size_t tensor = 0;
    model.get_parameters([&](const ParameterInfo& info, std::span<const T> values) {
        CHECK(info.name() == Model::parameters[tensor++].name());
        CHECK(static_cast<Index>(values.size()) == info.size());
        taken.insert(taken.end(), values.begin(), values.end());
    });
    CHECK(tensor == Model::parameters.size());
    CHECK(static_cast<Index>(taken.size()) == Model::parameter_count);
    CHECK(same_bits(taken, given));
}

TEST_CASE("Parameters come back bit for bit", "[parameters]") {
    check_round_trip<HydraLM<untied_head, float>>();
    check_round_trip<HydraLM<untied_head, double>>();
    check_round_trip<HydraLM<tied_head, float>>();
}

TEST_CASE("A model begins as zeros", "[parameters]") {
    const HydraLM<untied_head> model;
    model.get_parameters([](const ParameterInfo& info, std::span<const float> values) {
        INFO(info.name());
        CHECK(std::ranges::all_of(
            values, [](float value) { return std::bit_cast<std::uint32_t>(value) == 0; }));
    });
}
