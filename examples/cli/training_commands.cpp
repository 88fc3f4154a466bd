// train: from random weights to a checkpoint; and gradients, which is compiled of the same parts.
#include <hydralm/evaluation.hpp>
#include <hydralm/training.hpp>

#include <csignal>
#include <cstdio>

#include "options.hpp"
#include "program_model.hpp"
#include "published_out.hpp"
#include "ranks.hpp"
#include "run_gradients.hpp"
#include "task_model.hpp"
#include "text_input.hpp"
#include "training_report.hpp"

namespace {

volatile std::sig_atomic_t interrupted = 0;

// The first signal ends the run in order, the second at once.
extern "C" void stop_after_this_step(int signal) {
    interrupted = 1;
    std::signal(signal, SIG_DFL);
}

// tuned: a published model is, whose weights are good already.
hydralm::TrainerOptions trainer_options(const TrainOptions& t, std::int64_t steps, bool tuned) {
    hydralm::TrainerOptions options;
    const bool muon = t.optimizer == "muon";
    const double part = tuned ? 1.0 / 30.0 : 1.0;
    const double rate = t.lr > 0.0 ? t.lr : (muon ? 2e-2 : 3e-3) * part;
    options.optimiser.kind = muon ? hydralm::OptimiserKind::muon : hydralm::OptimiserKind::adamw;
    if (muon) {
        options.optimiser.muon.rate = rate;
        options.optimiser.adamw.rate *= part;  // of what is no matrix
    } else {
        options.optimiser.adamw.rate = rate;
    }
    options.rate = {.peak = rate,
                    .least = t.min_lr < 0.0 ? rate / 10 : t.min_lr,
                    .warmup = t.warmup >= 0 ? t.warmup : std::min<std::int64_t>(steps / 20, 100),
                    .total = steps};
    options.accumulate = t.accumulate;
    options.clip = t.clip;
    options.cut_texts = t.cut_text;
    if (t.recompute) options.keep = hydralm::Keep::block_inputs;
    return options;
}

// What is learned from, and what the result says of it.
struct Lessons {
    hydralm::BatchSource& training;
    hydralm::BatchSource& validation;
    std::int64_t eval_batches;
    LossUnit unit;
    std::string data;     // what the numbers depend on beside the options: members of a JSON object
    std::string sizes{};  // said before the first step
};

// Trains the model and writes it.
template <class Model>
void train_on(const Options& o, Model& model, const Lessons& lessons,
              hydralm::TrainerOptions trainer_options) {
    const TrainOptions& t = o.train;
    hydralm::Ranks& ranks = program_ranks();
    if (is_published(model)) keep_constants(trainer_options);
    hydralm::Trainer<Model> trainer(model, trainer_options, ranks);
    const hydralm::RunOptions options{
        .steps = trainer_options.rate.total,
        .eval_every = t.eval_every,
        .eval_batches = lessons.eval_batches,
        .save_every = t.save_every,
        .keep = t.keep,
        .directory = run_directory(o),
        .log = t.log,
        .save_best = [&](const std::filesystem::path& best) { save_trained(o, model, best); }};
    const std::string description =
        "{\"seed\":" + std::to_string(o.seed) + "," +
        (t.init.empty() ? "\"scheme\":\"" + t.scheme + "\""
                        : "\"init\":" + std::to_string(hydralm::weights_crc(model))) +
        "," + lessons.data + "}";
    hydralm::TrainingRun<Model> run(trainer, lessons.training, &lessons.validation, options,
                                    description);
    if (!t.resume.empty())
        run.resume([](const std::string& text) {
            if (speaks()) std::fprintf(stderr, "%s\n", text.c_str());
        });
    const std::int64_t begin = trainer.steps();
    const std::string moments = bytes_of_moments(trainer);

    std::signal(SIGINT, stop_after_this_step);
    std::signal(SIGTERM, stop_after_this_step);
    const auto report =
        run.run([] { return interrupted != 0; },
                [&](const auto& step, const auto& so_far) {
                    if (step.step == begin + 1 && speaks())
                        std::fputs((lessons.sizes + moments).c_str(), stderr);
                    print_progress(step, so_far, options.steps, step.step - begin, lessons.unit);
                });
    if (report.interrupted) {
        throw hydralm::Error(
            {.field = "train",
             .expected = std::to_string(options.steps) + " steps",
             .found = "a request to stop after step " + std::to_string(report.steps) +
                      ", which is saved",
             .fix = "to go on, give the same command with --resume " + options.directory.string()});
    }
    ranks.on_first([&] { save_out(o, model); });
    if (speaks()) print_result(report, lessons.unit, ranks);
}

std::uint32_t checksum(const hydralm::TextCorpus& corpus) {
    std::uint32_t sum = 0;
    for (const auto text : corpus.texts()) sum = hydralm::crc32(text, sum);
    return sum;
}

// Windows is a source of the corpora's tokens. data: what they were made of.
template <class Windows, class Model, class Corpus>
void train_on_corpora(const Options& o, Model& model, const Corpus& training,
                      const Corpus& validation, const LossUnit& unit, const std::string& data) {
    const TrainOptions& t = o.train;
    Windows source(training, t.batch, t.seq_len, o.seed);
    // What is held out is read as training reads: windows from everywhere in it, each from an empty
    // state, as long as those it has room for.
    const auto length = std::clamp<hydralm::Index>(validation.longest() - 1, 1, t.seq_len);
    Windows held_out(validation, t.batch, length, o.seed);
    train_on(o, model,
             {.training = source,
              .validation = held_out,
              .eval_batches = std::clamp<std::int64_t>(validation.size() / t.batch / length, 1, 32),
              .unit = unit,
              .data = "\"batch\":" + std::to_string(t.batch) + ",\"seq_len\":" +
                      std::to_string(t.seq_len) + ",\"held_out\":\"pieces\"" + data,
              .sizes = sizes_of(training, validation, t.seq_len)},
             trainer_options(t, t.steps, is_published(model)));
}

// The tokenizer that --tokenizer names, or that of the checkpoint training begins from, or bytes.
// Throws Error for that of a GGUF file, which could not be copied beside the checkpoint.
ProgramTokenizer training_tokenizer(const Options& o) {
    if (!o.tokenizer.empty() && hydralm::is_gguf(o.tokenizer))
        throw hydralm::Error({.file = o.tokenizer,
                              .field = "--tokenizer",
                              .expected = "a tokenizer.json",
                              .found = "a GGUF file",
                              .fix = "give the tokenizer.json of the model it was made of"});
    if (!o.tokenizer.empty()) return ProgramTokenizer(o.tokenizer);
    return o.train.init.empty() ? ProgramTokenizer() : ProgramTokenizer::of(o.train.init);
}

// A checkpoint read by other tokens than bytes has its tokenizer beside it.
void save_tokenizer(const std::string& text, const std::filesystem::path& checkpoint) {
    hydralm::AtomicFile file(tokenizer_file_of(checkpoint));
    file.write(text);
    file.commit();
}

// One of bytes has none, that it be read as bytes.
void expect_no_tokenizer(const std::filesystem::path& checkpoint) {
    std::error_code unknown;
    const auto file = tokenizer_file_of(checkpoint);
    if (std::filesystem::exists(file, unknown))
        throw hydralm::Error({.file = file.string(),
                              .expected = "no tokenizer beside a checkpoint trained on bytes",
                              .found = "one",
                              .fix = "train with --tokenizer, or write to another folder or name"});
}

template <class Model>
void train_on_text(const Options& o, Model& model) {
    const TrainOptions& t = o.train;
    const ProgramTokenizer tokenizer = training_tokenizer(o);
    hydralm::Ranks& ranks = program_ranks();
    if (tokenizer.is_bytes() && is_published(model) && model.vocab_size() != tokenizer.vocab_size())
        throw hydralm::Error({.file = t.init,
                              .expected = "the tokenizer.json of a published model",
                              .found = "none",
                              .fix = "copy it from where the model was published, or give "
                                     "--tokenizer"});
    tokenizer.expect_fits(model.vocab_size());
    // Pieces are cut in bytes; of published tokenizers a token is rarely longer than 8.
    const auto [training, validation] = hydralm::TextCorpus(t.text).split(
        0.05, o.seed, tokenizer.is_bytes() ? t.seq_len : 8 * t.seq_len);
    const std::string data = ",\"training_bytes\":" + std::to_string(training.size()) +
                             ",\"training_crc32\":" + std::to_string(checksum(training)) +
                             ",\"validation_bytes\":" + std::to_string(validation.size()) +
                             ",\"validation_crc32\":" + std::to_string(checksum(validation));
    const std::filesystem::path out = out_checkpoint(o, model);
    if (tokenizer.is_bytes()) {
        ranks.on_first([&] {
            expect_no_tokenizer(out);
            expect_no_tokenizer(best_checkpoint(o));
            prepare_out(o, model);
        });
        train_on_corpora<hydralm::RandomWindows>(o, model, training, validation, bits_per_byte,
                                                 data);
        return;
    }
    const std::string text = read_text(tokenizer.file().string());
    ranks.on_first([&] {
        prepare_out(o, model);
        expect_writable(tokenizer_file_of(out));
        // Before the first step: a run that is stopped leaves its best model.
        const auto best = best_checkpoint(o);
        std::error_code failure;  // the run itself says it better
        if (o.train.resume.empty())
            std::filesystem::create_directories(best.parent_path(), failure);
        if (std::filesystem::is_directory(best.parent_path(), failure) &&
            !std::filesystem::exists(best, failure))
            save_tokenizer(text, best);
    });
    train_on_corpora<hydralm::RandomTokenWindows>(
        o, model, hydralm::TokenCorpus(training, tokenizer),
        hydralm::TokenCorpus(validation, tokenizer), bits_per_token,
        data + ",\"tokenizer_crc32\":" +
            std::to_string(hydralm::crc32(std::as_bytes(std::span(text)), 0)));
    ranks.on_first([&] { save_tokenizer(text, out); });
}

// Output projections of DeltaNet mixers at zero: such a mixer adds nothing.
template <class Model>
void silence_deltanet(Model& model) {
    change_parameters(model, [&](const hydralm::ParameterInfo& info, auto values) {
        if (in_mixer(model, info, hydralm::LayerType::deltanet) &&
            info.law.role == hydralm::ParameterRole::residual_projection)
            std::ranges::fill(values, 0);
    });
}

template <class Model>
void train_on_task(const Options& o, Model& model) {
    const TrainOptions& t = o.train;
    const auto kind = *hydralm::task_kind(t.task);
    const auto stages = hydralm::read_stages(t.stages, kind, task_vocab(model.vocab_size(), kind));
    hydralm::TaskSource source(kind, stages, hydralm::Split::training, o.seed, t.accumulate);
    hydralm::TaskSource held_out(kind, {stages.back()}, hydralm::Split::evaluation, o.seed);
    program_ranks().on_first([&] { prepare_out(o, model); });
    if (stages.front().skip_deltanet && t.init.empty()) silence_deltanet(model);
    auto options = trainer_options(t, source.steps(), is_published(model));
    options.optimiser.adamw.decay = 0.01;
    if (t.warmup < 0) options.rate.warmup = 50;
    options.rate.hold = options.rate.total * 6 / 10;
    options.frozen = [&source, &model](const hydralm::ParameterInfo& info, std::int64_t step) {
        return source.stage(static_cast<std::uint64_t>(step)).skip_deltanet &&
               in_mixer(model, info, hydralm::LayerType::deltanet);
    };
    const hydralm::MappedFile file(t.stages);
    const auto text = hydralm::parse_json(file.text(), file.name(), "").dump();
    train_on(o, model,
             {.training = source,
              .validation = held_out,
              .eval_batches = 4,
              .unit = nats_per_answer,
              .data = "\"task\":\"" + t.task + "\",\"stages\":" + text},
             options);
}

template <class Model>
void run_train(const Options& o) {
    expect_no_gguf(o);
    Model model = o.train.init.empty() ? new_program_model<Model>(o.config)
                                       : load_program_model<Model>(o.train.init, "float");
    if (o.train.init.empty())
        hydralm::initialise(model, o.seed,
                            {.scheme = *hydralm::init_scheme(o.train.scheme),
                             .decay_bias = o.train.decay_bias,
                             .gate_scale = o.train.gate_scale});
    if (o.train.task.empty()) train_on_text(o, model);
    else train_on_task(o, model);
}

}  // namespace

void train(const Options& o) {
    program_ranks();  // so that an error of all is said once
    with_scalar(o.scalar, [&]<class T>(T) { run_train<ProgramModel<T>>(o); });
}
void gradients(const Options& o) {
    with_scalar(o.scalar, [&]<class T>(T) { run_gradients<ProgramModel<T>>(o); });
}
