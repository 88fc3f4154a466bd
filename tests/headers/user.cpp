// What a user compiles: every mixer, float and double, decoding, training, files, memories. Never
// run: its warnings are.
#include <hydralm/evaluation.hpp>
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/drafts.hpp>
#include <hydralm/inference/prefix_cache.hpp>
#include <hydralm/inference/speculative.hpp>
#include <hydralm/io.hpp>
#include <hydralm/memory/compressive_memory.hpp>
#include <hydralm/memory/fact_bank.hpp>
#include <hydralm/training.hpp>

#include <vector>

constexpr hydralm::HydraConfig config{
    .vocab_size = 256,
    .d_model = 64,
    .n_layers = 4,
    .n_heads = 2,
    .layer_types = {hydralm::LayerType::deltanet, hydralm::LayerType::swa,
                    hydralm::LayerType::retrieval, hydralm::LayerType::full},
    .mtp_depth = 1};
const std::vector<hydralm::token_id> prompt{1, 2, 3};

template <class T>
void train(const char* text, const char* file) {
    using Model = hydralm::HydraLM<config, T>;
    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    hydralm::RandomWindows source(hydralm::TextCorpus({text}), 2, 64, 1);
    hydralm::Trainer<Model> trainer(model, {});
    trainer.step(source);
    hydralm::save(model, file);
}

template <class Model>
bool decode(const Model& model) {
    hydralm::BatchDecoder<Model> batch(model, 1);
    hydralm::PrefixCache<Model> cache(model, 1 << 20);
    cache.prefill(prompt, batch.state(0));
    hydralm::Sampler<typename Model::Scalar> sampler(model.vocab_size(), {});
    hydralm::MtpDraft<Model> draft(model);
    hydralm::SpeculativeDecoder<Model, hydralm::MtpDraft<Model>> decoder(model, draft, 1);
    auto state = model.new_state();
    decoder.prefill(prompt, state);
    decoder.generate(state, sampler, 8, [](hydralm::token_id token) { return token > 0; });
    return batch.step(std::vector<hydralm::token_id>{65})(0, 0) > 0;
}

template <class T>
bool remember() {
    hydralm::FactBank<T, 64> bank;
    hydralm::CompressiveMemory<T, 64> memory(16, 4, 8);
    std::vector<T> row(64);
    bank.write({row.data(), 1, 64}, {row.data(), 1, 64});
    bank.recall({row.data(), 1, 64}, {row.data(), 1, 64});
    memory.append(row, row);
    memory.attend(row, row);
    return row[0] > T(0);
}

// Of lengths that the compiler sees: shorter than a batch, and no multiple of one.
template <class T>
T fuse() {
    const std::vector<T> gate{1, 2, 3}, up{4, 5, 6};
    std::vector<T> y(3), long_row(17, T(1));
    hydralm::out(hydralm::view(y)) = hydralm::silu(hydralm::view(gate)) * hydralm::view(up);
    hydralm::out(hydralm::view(long_row)) += T(0.5) * hydralm::view(long_row);
    return hydralm::sum(hydralm::view(y)) + long_row[16];
}

template <class T>
int use(const char* text, const char* file) {
    train<T>(text, file);
    auto opened =
        hydralm::open<T>(file, hydralm::Kernels<hydralm::Sizes<32>, hydralm::Sizes<128>>{});
    auto state = opened.new_state();
    return decode(hydralm::load<hydralm::HydraLM<config, T>>(file)) && remember<T>() &&
           fuse<T>() > T(0) && opened.step(65, state)[0] > T(0);
}

int main(int count, char** words) {
    if (count < 3) return 2;
    using Small = hydralm::HydraLM<config, float, hydralm::weights::BF16>;
    return use<float>(words[1], words[2]) + use<double>(words[1], words[2]) +
           decode(hydralm::load<Small>(words[2]));
}
