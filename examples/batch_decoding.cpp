// 4. Batch decoding: independent streams that share one read of the weights at every step.
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/batch_decoder.hpp>
#include <hydralm/inference/sampling.hpp>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

using hydralm::argmax;
using hydralm::token_id;

int main() {
    using Model = hydralm::HydraLM<hydralm::presets::small>;
    constexpr std::size_t vocabulary = Model::vocab_size();
    constexpr int length = 12;
    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);

    const std::array<std::string, 3> prompts{"one stream", "another", "one stream"};
    const auto encode = [](const std::string& text) {
        std::vector<token_id> ids;
        for (const unsigned char byte : text) ids.push_back(byte);
        return ids;
    };

    // Every stream is prefilled on its own: prompts differ in length, streams in position.
    hydralm::BatchDecoder<Model> decoder(model, prompts.size());
    std::array<token_id, prompts.size()> next{};
    for (std::size_t b = 0; b < prompts.size(); ++b) {
        const auto stream = static_cast<hydralm::Index>(b);
        next[b] = argmax<float>(model.prefill(encode(prompts[b]), decoder.state(stream)));
    }

    // Then they step together.
    std::array<std::vector<token_id>, prompts.size()> texts;
    for (int n = 0; n < length; ++n) {
        const auto logits = decoder.step(next);  // [B, V]
        for (std::size_t b = 0; b < prompts.size(); ++b) {
            texts[b].push_back(next[b]);
            next[b] = argmax<float>({logits.row(static_cast<hydralm::Index>(b)), vocabulary});
        }
    }

    // A stream does not notice its neighbours: alone it has the same tokens.
    auto state = model.new_state();
    token_id token = argmax<float>(model.prefill(encode(prompts[1]), state));
    std::vector<token_id> alone;
    for (int n = 0; n < length; ++n) {
        alone.push_back(token);
        token = argmax<float>(model.step(token, state));
    }

    const bool equal = texts[0] == texts[2], undisturbed = texts[1] == alone;
    std::printf("%zu streams, %d steps, %d reads of the weights\n", prompts.size(), length, length);
    std::printf("equal prompts, equal texts: %s\n", equal ? "yes" : "no");
    std::printf("as if it were alone: %s\n", undisturbed ? "yes" : "no");
    return equal && undisturbed ? 0 : 1;
}
