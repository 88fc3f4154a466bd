// Config JSON: what is read is valid, and comes back from what is written.
#include "hydralm/io/config_json.hpp"

#include "target.hpp"

namespace hydralm::fuzz {
namespace {

void take(std::string_view input) {
    const HydraConfig config = config_from_json(input, "config.json");
    expect(!broken_rule(config), "what is read keeps the rules");
    expect(mlp_hidden(config) > 0, "every width is positive");
    for (const int indent : {-1, 2}) {
        const std::string text = config_to_json(config, indent);
        expect(config_from_json(text, "written") == resolved(config), "what is written is read");
    }
    expect(config_differences(config, resolved(config)).empty(), "resolving changes no model");
    config_differences(HydraConfig{}, config);
}

std::vector<std::string> seeds() {
    return {"{}",
            config_to_json(HydraConfig{}),
            config_to_json(presets::tiny, 1),
            R"({"d_model":64,"n_heads":2,"head_dim":null,"layer_types":null,"mlp_mult":2.5})",
            R"({"n_layers":3,"layer_types":["deltanet","swa","retrieval"],"dn_use_gate":false})",
            R"({"pad_token_id":1,"mtp_depth":16,"rms_eps":1e-30,"swa_rope_base":1e300})"};
}

}  // namespace

const Target target{take, seeds, 1 << 18};

}  // namespace hydralm::fuzz
