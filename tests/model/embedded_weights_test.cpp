// Weights as a constant of the program: the bytes that the model has in memory of its own, for any
// target; read where they lie, never written.
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "hydralm/model/weight_image.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// A model whose memory is at hand.
template <class Weights, HydraConfig config = small_hybrid>
struct Laid {
    using Model = HydraLM<config, float, Weights>;
    AlignedBuffer<std::byte> memory{Model::weight_bytes};
    Model model{memory.span()};
    Laid() { initialise(model, 3, InitScheme::fan_in); }
};

// What `hydralm embed` would have written.
template <class Model>
using Embedded = EmbeddedWeights<Model, simd::vector_bytes>;
template <class Model>
Embedded<Model> embedded_from(const Model& model) {
    const auto image = weight_image(model, simd::vector_bytes);
    Embedded<Model> embedded;
    REQUIRE(image.size() == sizeof embedded.words);
    std::memcpy(embedded.words, image.data(), image.size());
    return embedded;
}

// Every mixer, modules to draft with and a head of its own.
constexpr HydraConfig whole = [] {
    HydraConfig config = small_drafting;
    config.layer_types = {LayerType::full, LayerType::retrieval, LayerType::deltanet,
                          LayerType::swa};
    config.tie_embeddings = false;
    return config;
}();

std::vector<float> parameters(const auto& model) {
    std::vector<float> all;
    model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        all.insert(all.end(), values.begin(), values.end());
    });
    return all;
}

void expect_same_bytes(const auto& laid) {
    using Model = std::remove_cvref_t<decltype(laid.model)>;
    const auto image = weight_image(laid.model, simd::vector_bytes);
    REQUIRE(static_cast<Index>(image.size()) == Model::weight_bytes);
    CHECK(same_bits(std::span<const std::byte>(image), laid.memory.span()));
    const auto embedded = embedded_from(laid.model);
    CHECK(same_bits(parameters(Model(embedded)), parameters(laid.model)));
    STATIC_REQUIRE_FALSE(std::is_constructible_v<Model, Embedded<Model>>);  // would not outlive it
}

}  // namespace

TEMPLATE_TEST_CASE("embedded weights: the bytes of the model's memory", "[embedded]",
                   weights::Float, weights::BF16, weights::Q8, weights::Q4, weights::Mixed) {
    expect_same_bytes(Laid<TestType>());
}
TEST_CASE("embedded weights: of every layer, modules to draft with, a head of its own",
          "[embedded]") {
    expect_same_bytes(Laid<weights::Mixed, whole>());
}

TEST_CASE("embedded weights: for targets with other vectors", "[embedded]") {
    const Laid<weights::BF16> laid;
    constexpr auto& infos = Laid<weights::BF16>::Model::parameters;
    std::vector<std::vector<float>> given;
    laid.model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        given.emplace_back(values.begin(), values.end());
    });
    for (const Index vector_bytes : {16, 32, 64}) {
        const auto image = weight_image(laid.model, vector_bytes);
        const Index panel = vector_bytes / 2;  // two vectors of float
        std::size_t at = 0, wrong = 0;
        for (std::size_t i = 0; i < infos.size(); ++i) {
            const ParameterInfo& info = infos[i];
            const bool bf16 = info.format == weights::Format::bf16;
            const Index fields = std::max(info.fields, 1), rows = info.rows() / fields,
                        cols = info.cols(), depth = bf16 ? round_up(cols, 32) : cols;
            const Index unit = bf16 ? 2 : 4;
            for (Index field = 0; field < fields; ++field) {
                for (Index r = 0; r < rows; ++r)
                    for (Index c = 0; c < cols; ++c) {
                        const float expected =
                            given[i][static_cast<std::size_t>((field * rows + r) * cols + c)];
                        const Index in_panel = bf16 ? c / 2 * 2 * panel + r % panel * 2 + c % 2
                                                    : c * panel + r % panel;
                        const Index element = info.rank == 3 ? c * rows + r
                                              : info.fields > 0
                                                  ? r / panel * panel * depth + in_panel
                                                  : r * cols + c;
                        const auto* const from =
                            image.data() + at + static_cast<std::size_t>(element * unit);
                        std::uint32_t bits = 0;
                        std::memcpy(reinterpret_cast<std::byte*>(&bits) + (4 - unit), from,
                                    static_cast<std::size_t>(unit));
                        wrong += std::bit_cast<float>(bits) != expected;
                    }
                const Index elements =
                    info.fields > 0 ? round_up(rows, panel) * depth : info.size();
                at += static_cast<std::size_t>(round_up(elements * unit, alignment));
            }
        }
        CHECK(wrong == 0);
        CHECK(at == image.size());
    }
    CHECK_THROWS_WITH(weight_image(laid.model, 48),
                      "hydralm: vector_bytes: expected 16, 32 or 64, found 48; give what the "
                      "target's vectors have: 16 with SSE or NEON, 32 with AVX, 64 with AVX-512");
}

TEST_CASE("embedded weights: a model over them computes as any, takes no memory, is not written",
          "[embedded]") {
    const Laid<weights::Float> laid;
    using Model = Laid<weights::Float>::Model;
    const auto embedded = embedded_from(laid.model);
    const long before = allocations();
    Model model(embedded);
    CHECK(allocations() == before);
    const auto tokens = random_tokens(50, small_hybrid.vocab_size, 1);
    auto a = model.new_state(), b = laid.model.new_state();
    CHECK(same_bits(logits_in_pieces(model, a, tokens), logits_in_pieces(laid.model, b, tokens)));

    const std::string refusal =
        "hydralm: model: expected one whose weights may be written, found weights embedded in the "
        "program; load the checkpoint into a model that has memory of its own";
    const auto write = [](Model& m) {
        m.set_parameters([](const ParameterInfo&, std::span<float>) {});
    };
    CHECK_THROWS_WITH(write(model), refusal);
    Model moved = std::move(model);
    CHECK_THROWS_WITH(write(moved), refusal);
    CHECK_THROWS_AS(write(model), Error);  // moved from
    CHECK(same_bits(parameters(moved), parameters(laid.model)));
    moved = random_model<Model>(4);
    write(moved);
}
