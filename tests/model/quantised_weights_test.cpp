// Models whose matrices are kept in 8 and 4 bits: their forms agree, bits depend neither on threads
// nor on streams beside, weights are quantised once, states are those of a float model.
#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Exact = HydraLM<small_remembering>;
using Small = HydraLM<small_remembering, float, weights::Mixed>;

static_assert(Small::state_bytes == Exact::state_bytes);
static_assert(Small::parameter_count == Exact::parameter_count);

constexpr HydraConfig even{.vocab_size = 512, .d_model = 256, .n_layers = 4, .n_heads = 4};
template <class Weights>
constexpr double share = static_cast<double>(HydraLM<even, float, Weights>::weight_bytes) /
                         static_cast<double>(HydraLM<even>::weight_bytes);
static_assert(share<weights::Q8> < 0.29 && share<weights::Q8> > 8.5 / 32);
static_assert(share<weights::Q4> < 0.165 && share<weights::Q4> > 4.5 / 32);
static_assert(share<weights::Mixed> < 0.21 && share<weights::Mixed> > share<weights::Q4>);

std::vector<float> parameters(const auto& model) {
    std::vector<float> all;
    model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        all.insert(all.end(), values.begin(), values.end());
    });
    return all;
}

// A model with the parameters that another one has.
template <class Model>
Model with_parameters(const std::vector<float>& all) {
    Model model;
    std::size_t next = 0;
    model.set_parameters([&](const ParameterInfo&, std::span<float> values) {
        for (float& v : values) v = all[next++];
    });
    return model;
}

// Activations are rounded to 8 bits before every product, and a difference in the last bit of a
// float may fall on either side: 1/254 of the largest of 32 inputs.
constexpr double bound = 0.05;

// What the model is to make of a tensor of another's.
template <class Block>
void quantise_rows(std::span<float> values, Index cols) {
    for (std::size_t row = 0; row < values.size(); row += static_cast<std::size_t>(cols))
        for (Index c = 0; c < cols; c += 32) {
            float* const w = values.data() + row + c;
            const Index count = std::min<Index>(32, cols - c);
            const Block block = Block::quantise(w, count);
            for (Index i = 0; i < count; ++i)
                w[i] = block.scale() * static_cast<float>(block.value(i));
        }
}

}  // namespace

TEST_CASE("quantised weights: MLPs in 4 bits, other matrices in 8, all else stays", "[quantised]") {
    const auto given = random_model<Exact>(3);
    auto expected = parameters(given);
    const auto model = with_parameters<Small>(expected);
    const auto after = parameters(model);
    REQUIRE(after.size() == expected.size());
    std::size_t next = 0;
    Index four_bits = 0, eight_bits = 0;
    for (const auto& info : Small::parameters) {
        const std::span<float> values(expected.data() + next,
                                      static_cast<std::size_t>(info.size()));
        next += values.size();
        if (!info.law.any_format) continue;
        CHECK(info.of_mlp == (info.name().find("mlp.w_") != std::string_view::npos));
        (info.of_mlp ? four_bits : eight_bits) += info.size();
        if (info.of_mlp) quantise_rows<weights::Q4Block>(values, info.cols());
        else quantise_rows<weights::Q8Block>(values, info.cols());
    }
    CHECK(same_bits(after, expected));
    CHECK(four_bits > 0);
    CHECK(eight_bits > 0);
    CHECK(same_bits(parameters(with_parameters<Small>(after)), after));
}

TEST_CASE("quantised weights: logits are near those of a float model of the same weights",
          "[quantised]") {
    const auto model = random_model<Small>(4);
    const auto exact = with_parameters<Exact>(parameters(model));
    const auto tokens = random_tokens(70, 53, 4);
    auto a = model.new_state();
    auto b = exact.new_state();
    check_close(logits_in_pieces(model, a, tokens), logits_in_pieces(exact, b, tokens), bound,
                "quantised");
}

TEST_CASE("quantised weights: prefill, prefill in pieces and steps agree", "[quantised]") {
    const auto model = random_model<Small>(5);
    const auto tokens = random_tokens(70, 53, 5);
    auto whole = model.new_state(), pieces = model.new_state(), steps = model.new_state(),
         recurrent = model.new_state();
    const auto expected = logits_in_pieces(model, whole, tokens);
    check_close(logits_in_pieces(model, pieces, tokens, {1, 8, 9, 40}), expected, bound, "pieces");
    const auto by_step = logits_by_step(model, steps, tokens);
    check_close(by_step, expected, bound, "steps");
    // the recurrent form has the bits of steps, however many rows a product has
    CHECK(same_bits(logits_in_pieces(model, recurrent, tokens, {3, 40}, Form::recurrent), by_step));
    CHECK(same_state(recurrent, steps));
}

TEST_CASE("quantised weights: the same bits for any number of threads and streams", "[quantised]") {
    using Wide = HydraLM<wide_remembering, float, weights::Mixed>;
    const auto model = random_model<Wide>(6);
    const auto tokens = random_tokens(40, 301, 6);
    const int before = num_threads();
    std::vector<std::vector<float>> logits;
    for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        auto state = model.new_state();
        logits.push_back(logits_in_pieces(model, state, tokens));
    }
    set_num_threads(before);
    CHECK(same_bits(logits[0], logits[1]));
    CHECK(same_bits(logits[0], logits[2]));

    auto alone = model.new_state();
    std::vector<StreamMemory> memories;
    std::vector<Stream> streams;
    for (int b = 0; b < 7; ++b) memories.push_back(Wide::new_memory());
    for (auto& memory : memories) {
        memory.reserve(1);
        streams.push_back(memory.stream());
    }
    AlignedBuffer<std::byte> workspace(Wide::workspace_bytes(7, 1, Form::recurrent));
    Arena arena(workspace.span());
    const std::vector<token_id> seven(7, tokens[0]);
    const auto hidden = model.forward(seven.data(), {streams.data(), 7}, 1, Form::recurrent, arena);
    std::vector<float> batch(7 * 301);
    model.head(hidden, {batch.data(), 7, 301});
    const auto one = model.step(tokens[0], alone);
    Index wrong = 0;
    for (std::size_t b = 0; b < 7; ++b)
        wrong += !same_bits(one, std::span(batch).subspan(b * 301, 301));
    CHECK(wrong == 0);
}
