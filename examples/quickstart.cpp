#include <hydralm/hydralm.hpp>
#include <hydralm/io/tokenizer.hpp>

#include <cmath>
#include <cstdio>

int main() {
    // The whole description of the model; everything else follows from it at compile time.
    constexpr hydralm::HydraConfig config{
        .vocab_size = 256, .d_model = 128, .n_layers = 4, .n_heads = 4, .swa_window = 128};
    hydralm::HydraLM<config> model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);  // or hydralm::load, from io.hpp

    // A text read at once, and the same text token by token: logits of what follows it.
    const auto text = hydralm::ByteTokenizer().encode("Once upon a time there was a hydra.");
    auto whole = model.new_state(), steps = model.new_state();
    const auto at_once = model.prefill(text, whole);
    auto one_by_one = at_once;
    for (const auto token : text) one_by_one = model.step(token, steps);
    bool same = true;
    for (std::size_t i = 0; i < at_once.size(); ++i)
        same = same && std::abs(one_by_one[i] - at_once[i]) < 1e-4F;
    std::printf("%td parameters; %zu tokens at once or one by one: %s\n", model.parameter_count,
                text.size(), same ? "the same logits" : "they differ");

    // The state does not grow with the text.
    std::printf("state behind %zu tokens: %td bytes", text.size(), whole.size());
    for (int i = 0; i < 100; ++i) model.prefill(text, whole);
    std::printf(", behind %zu: %td\n", 101 * text.size(), whole.size());
}
