// The config.json of a published model: what is read has layers that fit each other and sizes that
// can be added up.
#include "hydralm/families/published.hpp"

#include "hydralm/io/stack_json.hpp"
#include "hydralm/state/stream_state.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

// The module's tensors and state have sizes of 64 bits, and none is empty.
template <class Module>
void expect_sizes(const Module& module) {
    double all = 0;
    describe_parameters(module, [&](const ParameterInfo& info) {
        expect(info.rows() > 0 && info.cols() > 0, "no tensor is empty");
        all += static_cast<double>(info.rows()) * static_cast<double>(info.cols());
    });
    expect(all < 1e18, "parameters can be counted");
    expect(state_extent(module).bytes >= 0, "bytes of the state can be counted");
}

void take(std::string_view input) {
    const HybridShape shape = families::shape_from_json(input, "config.json");
    expect(shape.vocab_size > 0 && shape.d_model > 0 && shape.hidden > 0, "sizes are positive");
    expect(!shape.layers.empty() && shape.layers.size() <= 256, "1 to 256 layers");
    for (const HybridLayer& layer : shape.layers) {
        if (const auto* s = layer.delta_net()) {
            expect(s->value_heads % s->key_heads == 0, "value heads share key heads");
            expect_sizes(GroupedDeltaNet<float>(*s));
        } else {
            expect(layer.attention()->n_heads % layer.attention()->n_kv_heads == 0,
                   "heads share keys");
            expect(layer.attention()->rotary_dim <= layer.attention()->head_dim,
                   "no more turns than there is");
            expect_sizes(GroupedAttention<float>(*layer.attention()));
        }
    }
    expect(summary_of(shape).layer_types.size() == static_cast<int>(shape.layers.size()),
           "the summary has every layer");
    expect(!hybrid_json(shape).empty(), "what was read can be said");
}

std::vector<std::string> seeds() {
    const std::string sizes = R"("vocab_size":9,"hidden_size":8,"num_hidden_layers":2,)";
    const std::string linear = sizes + R"("intermediate_size":8,"num_attention_heads":2,
"num_key_value_heads":1,"head_dim":8,"linear_num_key_heads":1,"linear_num_value_heads":2,
"linear_key_head_dim":4,"linear_value_head_dim":6,"linear_conv_kernel_dim":4,)";
    const std::string qwen = R"({"model_type":"qwen3_5_text",)" + linear +
                             R"("rope_parameters":{"rope_theta":1e7},"mtp_num_hidden_layers":1})";
    return {qwen,
            R"({"model_type":"qwen3_5","tie_word_embeddings":true,"text_config":)" + qwen + "}",
            R"({"model_type":"qwen3_next",)" + linear +
                R"("num_experts":4,"mlp_only_layers":[0,1],"rope_theta":10000})",
            R"({"model_type":"olmo_hybrid",)" + linear +
                R"("layer_types":["linear_attention","full_attention"],"rope_parameters":null})",
            R"({"model_type":"gated_deltanet",)" + sizes +
                R"("num_heads":2,"head_dim":4,"expand_v":2.0,
"attn":[{"layers":[1],"num_heads":2,"window_size":3}]})",
            R"({"model_type":"kda",)" + sizes + R"("num_heads":1,"num_v_heads":2,"head_dim":4,
"attn":{"layers":[0],"num_heads":2}})"};
}

}  // namespace

const Target target{take, seeds, 1 << 20};

}  // namespace hydralm::fuzz
