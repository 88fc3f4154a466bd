// The code that the pages in docs/ show: every snippet there is a part of this file or of an
// example.
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/batch_decoder.hpp>
#include <hydralm/inference/generate.hpp>
#include <hydralm/inference/streaming.hpp>
#include <hydralm/training.hpp>

#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr hydralm::HydraConfig config{
    .vocab_size = 256, .d_model = 64, .n_layers = 4, .n_heads = 2, .swa_window = 32};
using Model = hydralm::HydraLM<config>;

static_assert(Model::state_bytes < 256 * 1024);
static_assert(Model::parameters[0].name() == "embed.weight");

constexpr hydralm::HydraConfig remembering{
    .vocab_size = 256,
    .d_model = 64,
    .n_layers = 2,
    .n_heads = 2,
    .layer_types = {hydralm::LayerType::swa, hydralm::LayerType::retrieval},
    .retrieval_chunk_size = 32};
using Remembering = hydralm::HydraLM<remembering>;

int failures = 0;

void expect(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "failed: %s\n", what);
    ++failures;
}

using Ids = std::vector<hydralm::token_id>;

void files() {
    Model fresh;
    hydralm::initialise(fresh, 42, hydralm::InitScheme::fan_in);
    hydralm::save(fresh, "model.safetensors");

    const Model model = hydralm::load<Model>("model.safetensors");
    auto a = fresh.new_state(), b = model.new_state();
    expect(fresh.step(7, a)[3] == model.step(7, b)[3], "a loaded model is the saved one");

    const std::vector<hydralm::token_id> tokens{1, 2, 3};
    // Heads and chunks of retrieval that it is compiled for; left out, the usual ones.
    constexpr hydralm::Kernels<hydralm::Sizes<32>, hydralm::Sizes<32>> kernels{};
    const auto any = hydralm::open<float>("model.safetensors", kernels);  // a RuntimeModel<float>
    auto stream = any.new_state();
    const auto first = hydralm::argmax(any.prefill(tokens, stream));
    auto other = model.new_state();
    expect(first == hydralm::argmax(model.prefill(tokens, other)), "the same model, opened");

    using Small = hydralm::HydraLM<config, float, hydralm::weights::BF16>;
    const Small small = hydralm::load<Small>("model.safetensors");
    hydralm::save_state(model, b, "stream.state");
    auto c = hydralm::load_state(small, "stream.state");
    const float difference = small.step(8, c)[3] - model.step(8, b)[3];
    expect(difference > -0.1F && difference < 0.1F, "rounded weights say nearly the same");
}

void forms(const Model& model, const Ids& tokens) {
    auto state = model.new_state();
    std::span<const float> logits = model.prefill(tokens, state);  // [V], after the last token
    logits = model.step(hydralm::argmax(logits), state);           // one more token
    expect(state.position() == static_cast<std::int64_t>(tokens.size()) + 1, "position");

    std::vector<float> all(tokens.size() * Model::vocab_size());
    const auto N = static_cast<hydralm::Index>(tokens.size());
    auto other = model.new_state();
    model.logits(tokens, other, hydralm::MatrixView(all.data(), N, Model::vocab_size()));
    expect(other.position() == N, "logits advance the state");
}

void text(const Model& model) {
    auto state = model.new_state();
    const hydralm::ByteTokenizer tokenizer;
    const auto logits = model.prefill(tokenizer.encode("The history of"), state);
    hydralm::Sampler<float> sampler(Model::vocab_size(),
                                    {.temperature = 0.8, .top_p = 0.95, .seed = 1});
    hydralm::Utf8Stream characters;
    std::string out;
    const auto show = [&](hydralm::token_id token) {
        const char byte = static_cast<char>(token);
        out += characters.push({&byte, 1});  // whole characters only
        return true;                         // false would end the text
    };
    hydralm::generate(model, state, logits, sampler, 20, hydralm::stop_at({'\n'}, show));
    out += characters.flush();
    expect(state.position() <= 14 + 20, "at most 20 tokens more");
}

void snapshots(const Model& model, const Ids& tokens) {
    auto state = model.new_state();
    model.prefill(tokens, state);
    const auto snapshot = state;  // fork: both go on, independently
    const float first = model.step(65, state)[0];
    state = snapshot;  // roll back
    expect(model.step(65, state)[0] == first, "a snapshot goes on as the original");

    hydralm::save_state(model, state, "session.state");
    auto resumed = hydralm::load_state(model, "session.state");
    expect(model.step(66, resumed)[0] == model.step(66, state)[0], "resuming is exact");

    state.reset();  // before the first token again
    expect(state.position() == 0, "reset");
}

void banks(const Remembering& model, const Ids& tokens, const std::filesystem::path& directory) {
    auto in_memory = model.new_state();  // grows; or one of
    auto smaller = model.new_state(256, {.format = hydralm::BankFormat::int8});
    auto on_disk = model.new_state(
        256, {.pages = std::make_shared<hydralm::MappedPages>(directory, 64 << 20)});
    auto bounded = model.new_state(256, Remembering::bounded_banks(4 << 20));
    auto quicker = model.new_state(256, {.open_groups = 4});
    const float expected = model.prefill(tokens, in_memory)[0];
    for (auto* state : {&on_disk, &bounded, &quicker})
        expect(model.prefill(tokens, *state)[0] == expected, "few tokens: the same bits");
    model.prefill(tokens, smaller);
    expect(smaller.size() < in_memory.size(), "8 bits take less");
}

void threads(const Model& model, const std::vector<Ids>& texts) {
    std::vector<std::thread> workers;
    std::vector<hydralm::token_id> next(texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i)
        workers.emplace_back([&, i] {
            auto state = model.new_state();  // one per thread; the model is shared
            next[i] = hydralm::argmax(model.prefill(texts[i], state));
        });
    for (auto& worker : workers) worker.join();
    expect(next[0] == next[1], "equal texts, equal answers");
}

void training() {
    std::FILE* const file = std::fopen("prose.txt", "w");
    for (int i = 0; i < 100; ++i) std::fputs("What is said once is said again. ", file);
    std::fclose(file);

    const auto [text, held_out] = hydralm::TextCorpus({"prose.txt"}).split(0.1, 1, 16);
    hydralm::RandomWindows source(text, 2, 16, 1);  // 2 windows of 16 bytes, seed 1

    Model learner;
    hydralm::initialise(learner, 1, hydralm::InitScheme::fan_in);
    hydralm::TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.rate = {.peak = 3e-3, .least = 3e-4, .warmup = 2, .total = 20};
    hydralm::Trainer<Model> trainer(learner, options);
    for (int i = 0; i < 10; ++i) trainer.step(source);

    hydralm::ConsecutiveChunks chunks(held_out, 1, 64);
    hydralm::TrainingRun<Model> run(trainer, source, &chunks,
                                    {.steps = 20, .save_every = 5, .directory = "prose.training"},
                                    R"({"seed": 1})");  // what the numbers depend on, for resume
    // run.resume(warn) instead of beginning: warn(text) is told of checkpoints passed over
    const hydralm::RunReport report = run.run([] { return false; },  // whether to stop now
                                              [](const auto& step, const auto& so_far) {
                                                  (void)step;  // loss, rate, norm of the gradient
                                                  (void)so_far;
                                              });
    hydralm::save(learner, "prose.safetensors");
    expect(report.steps == 20, "it went on from step 10");
    expect(hydralm::Evaluator<Model>(learner, 1, 64).loss(learner, chunks, 4) < 5.0, "it learns");
}

void errors() {
    try {
        hydralm::load<Model>("nowhere.safetensors");
        expect(false, "a missing file is refused");
    } catch (const hydralm::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());  // one line
        expect(error.detail().file == "nowhere.safetensors", "the error names the file");
    }
}

}  // namespace

int main() {
    const auto directory = std::filesystem::temp_directory_path() /
                           ("hydralm_documentation_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(directory);
    std::filesystem::current_path(directory);
    const Ids tokens{72, 101, 108, 108, 111};
    files();
    const Model model = hydralm::load<Model>("model.safetensors");
    forms(model, tokens);
    text(model);
    snapshots(model, tokens);
    Remembering retrieving;
    hydralm::initialise(retrieving, 1, hydralm::InitScheme::fan_in);
    banks(retrieving, tokens, directory);
    threads(model, {tokens, tokens});
    training();
    errors();
    std::filesystem::current_path(directory.parent_path());
    std::filesystem::remove_all(directory);
    return failures;
}
