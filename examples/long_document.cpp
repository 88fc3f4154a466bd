// 9. Ask a long document: a small model with a retrieval layer learns, in half a minute, to look up
// facts, and finds them in documents hundreds of times longer than those it was trained on.
#include <cstdio>
#include <hydralm/evaluation.hpp>
#include <hydralm/hydralm.hpp>

namespace {

constexpr hydralm::HydraConfig config{
    .vocab_size = 512,
    .d_model = 64,
    .n_layers = 2,
    .n_heads = 2,
    .mlp_mult = 2.0,
    .swa_window = 64,
    .layer_types = {hydralm::LayerType::swa, hydralm::LayerType::retrieval},
    .retrieval_chunk_size = 32,
    .retrieval_top_k = 4};
using Model = hydralm::HydraLM<config>;

// length, facts, queries, vocabulary; batch; steps
const std::vector<hydralm::TaskStage> stages{
    {{96, 6, 6, 512}, 48, 300}, {{256, 8, 8, 512}, 18, 200}, {{512, 12, 12, 512}, 10, 200}};

}  // namespace

int main() {
    constexpr auto task = hydralm::TaskKind::retrieval_qa;
    hydralm::TaskSource source(task, stages, hydralm::Split::training, 1);
    hydralm::TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.optimiser.adamw.decay = 0.01;
    options.rate = {
        .peak = 3e-3, .least = 3e-4, .warmup = 50, .total = source.steps(), .hold = 420};

    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    hydralm::Trainer<Model> trainer(model, options);
    for (std::int64_t step = 1; step <= source.steps(); ++step) {
        const auto report = trainer.step(source);
        if (step % 100 == 0) std::printf("step %ld: loss %.3f\n", step, report.loss);
    }

    // "QUERY k VAL": the answer is the model's likeliest next token.
    const hydralm::TaskShape document{65536, 32, 8, 512};
    const hydralm::TaskSequence sequence(task, document, hydralm::Split::evaluation, 7, 0);
    std::vector<hydralm::token_id> text(static_cast<std::size_t>(document.length));
    sequence.fill(0, text);
    auto state = model.new_state();
    model.prefill(std::span(text).first(static_cast<std::size_t>(sequence.trailer())), state);
    std::printf("read %lld tokens; the state is %.1f MiB\n",
                static_cast<long long>(state.position()),
                static_cast<double>(state.size()) / 1048576.0);
    const auto& answer = sequence.answers().front();
    const auto question = std::span(text).subspan(static_cast<std::size_t>(sequence.trailer()), 3);
    const auto logits = model.prefill(question, state);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    std::printf("a fact at %.0f %% of the document: %d; the model says %td\n", 100 * answer.depth,
                answer.value, best);

    const auto score = hydralm::score_task(model, task, document, 4, 8);
    std::printf("right in %lld of %lld such questions\n", static_cast<long long>(score.right),
                static_cast<long long>(score.answers));
    return 2 * score.right > score.answers ? 0 : 1;
}
