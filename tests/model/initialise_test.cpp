// Both schemes of initialisation draw what they promise, the same for every scalar.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr HydraConfig config{.vocab_size = 300,
                             .d_model = 64,
                             .n_layers = 3,
                             .n_heads = 4,
                             .mlp_multiple_of = 32,
                             .dn_short_conv_kernel = 5,
                             .swa_every = 3,
                             .tie_embeddings = false,
                             .initializer_range = 0.03};
using Model = HydraLM<config>;

template <class M = Model>
std::map<std::string, std::vector<double>> drawn(std::uint64_t seed, InitScheme scheme) {
    M model;
    initialise(model, seed, scheme);
    std::map<std::string, std::vector<double>> tensors;
    model.get_parameters([&](const ParameterInfo& info, auto values) {
        tensors[std::string(info.name())] = {values.begin(), values.end()};
    });
    return tensors;
}

// Mean 0 and the given deviation within five standard errors.
void check_spread(const std::vector<double>& values, double deviation, double kurtosis) {
    const auto n = static_cast<double>(values.size());
    double sum = 0, squares = 0;
    for (const double x : values) {
        sum += x;
        squares += x * x;
    }
    CHECK(std::abs(sum / n) <= 5 * deviation / std::sqrt(n));
    CHECK(std::abs(squares / n / (deviation * deviation) - 1) <= 5 * std::sqrt((kurtosis - 1) / n));
}
void check_normal(const std::vector<double>& values, double deviation) {
    check_spread(values, deviation, 3.0);
    const double largest =
        std::abs(*std::ranges::max_element(values, {}, [](double x) { return std::abs(x); }));
    CHECK(largest > 2.0 * deviation);
    CHECK(largest < 7.0 * deviation);
}
void check_uniform(const std::vector<double>& values, double range) {
    check_spread(values, range / std::sqrt(3.0), 1.8);
    const auto [least, most] = std::ranges::minmax(values);
    CHECK(least >= -range * (1 + 1e-6));
    CHECK(most <= range * (1 + 1e-6));
}

// The α half and the β half of ab_proj.bias. (Filled, not listed: GCC 12.2 gets the list wrong with
// AVX-512.)
std::vector<double> halves(double alpha) {
    std::vector<double> bias(8);
    std::fill_n(bias.begin(), 4, alpha);
    return bias;
}

bool ends(const std::string& name, std::string_view end) { return name.ends_with(end); }

}  // namespace

TEST_CASE("Scheme normal", "[initialise]") {
    for (const auto& [name, values] : drawn(1, InitScheme::normal)) {
        INFO(name);
        const double narrow = 0.03 / std::sqrt(6.0);
        if (ends(name, "norm1.weight") || ends(name, "norm2.weight") ||
            ends(name, "norm_f.weight")) {
            CHECK(values == std::vector<double>(64, 1.0));
        } else if (ends(name, "ab_proj.bias")) {
            const auto alpha = static_cast<double>(static_cast<float>(std::log(0.98 / 0.02)));
            CHECK(values == halves(alpha));
        } else if (ends(name, "conv.weight") || ends(name, "conv.bias")) {
            check_uniform(values, 1.0 / std::sqrt(5.0));
        } else if (ends(name, "o_proj.weight") || ends(name, "w_down.weight") ||
                   name == "lm_head.weight") {
            check_normal(values, narrow);
        } else {
            check_normal(values, 0.03);
        }
    }
}

TEST_CASE("Scheme fan_in", "[initialise]") {
    for (const auto& [name, values] : drawn(1, InitScheme::fan_in)) {
        INFO(name);
        const double residual = 1.7 / std::sqrt(6.0);
        if (ends(name, "norm1.weight") || ends(name, "norm2.weight") ||
            ends(name, "norm_f.weight")) {
            CHECK(values == std::vector<double>(64, 1.0));
        } else if (ends(name, "ab_proj.bias")) {
            CHECK(values == halves(4.0));
        } else if (ends(name, "conv.weight") || ends(name, "conv.bias")) {
            check_uniform(values, 1.0 / std::sqrt(5.0));
        } else if (ends(name, "o_proj.weight")) {
            check_uniform(values, residual / std::sqrt(64.0));
        } else if (ends(name, "w_down.weight")) {
            check_uniform(values, residual / std::sqrt(192.0));
        } else if (name == "embed.weight") {
            check_normal(values, 1.0 / std::sqrt(64.0));
        } else {
            check_uniform(values, 1.0 / std::sqrt(64.0));
        }
    }
}

TEST_CASE("A seed is a model, whatever the scalar", "[initialise]") {
    for (const InitScheme scheme : {InitScheme::normal, InitScheme::fan_in}) {
        const auto values = drawn(7, scheme);
        CHECK(values == drawn(7, scheme));
        CHECK(values == drawn<HydraLM<config, double>>(7, scheme));
        CHECK(values.at("embed.weight") != drawn(8, scheme).at("embed.weight"));
        CHECK(values.at("blocks.0.mixer.gate_proj.weight") !=
              values.at("blocks.1.mixer.gate_proj.weight"));
    }
    CHECK(init_scheme("normal") == InitScheme::normal);
    CHECK(init_scheme("fan_in") == InitScheme::fan_in);
    CHECK_FALSE(init_scheme("xavier").has_value());
}
