// What a user compiles: every mixer, float and double, training, files. Never run: its warnings
// are.
#include <hydralm/evaluation.hpp>
#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>
#include <hydralm/training.hpp>

constexpr hydralm::HydraConfig config{.vocab_size = 256,
                                      .d_model = 64,
                                      .n_layers = 3,
                                      .n_heads = 2,
                                      .swa_every = 3,
                                      .retrieval_every = 2};

template <class T>
int use(const char* text, const char* file) {
    using Model = hydralm::HydraLM<config, T>;
    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    hydralm::RandomWindows source(hydralm::TextCorpus({text}), 2, 64, 1);
    hydralm::Trainer<Model> trainer(model, {});
    trainer.step(source);
    hydralm::save(model, file);
    const auto loaded = hydralm::load<Model>(file);
    auto state = loaded.new_state();
    return loaded.step(65, state)[0] > T(0) ? 1 : 0;
}

int main(int count, char** words) {
    return count < 3 ? 2 : use<float>(words[1], words[2]) + use<double>(words[1], words[2]);
}
