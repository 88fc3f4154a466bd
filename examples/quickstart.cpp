#include <hydralm/hydralm.hpp>
#include <hydralm/inference/generate.hpp>
#include <hydralm/io/tokenizer.hpp>

#include <cstdio>

int main() {
    // The whole description of the model; everything else follows from it at compile time.
    constexpr hydralm::HydraConfig config{
        .vocab_size = 256, .d_model = 128, .n_layers = 4, .n_heads = 4, .swa_window = 128};
    hydralm::HydraLM<config> model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);  // or hydralm::load, from io.hpp

    auto state = model.new_state();
    const auto prompt = hydralm::ByteTokenizer().encode("Once upon a time");
    const auto logits = model.prefill(prompt, state);
    hydralm::Sampler<float> sampler(config.vocab_size, {.temperature = 0.8, .seed = 1});
    hydralm::generate(model, state, logits, sampler, 8, [](hydralm::token_id token) {
        std::printf("%d ", token);
        return true;  // false would end the text
    });
    std::printf("\n%td parameters, %td bytes of state\n", model.parameter_count, model.state_bytes);
}
