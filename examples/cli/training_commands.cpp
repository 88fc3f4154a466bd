// train: from random weights to a checkpoint. gradients: the exact gradient of a checkpoint's loss.
#include <hydralm/evaluation.hpp>
#include <hydralm/training.hpp>

#include <csignal>
#include <cstdio>
#include <numbers>

#include "options.hpp"
#include "program_model.hpp"
#include "ranks.hpp"
#include "task_model.hpp"
#include "text_input.hpp"

namespace {

template <class Model>
void run_gradients(const Options& o) {
    using T = typename Model::Scalar;
    const Model model = load_program_model<Model>(o.model, "float");
    const auto ids = read_ids(o.ids, model.vocab_size());
    if (ids.size() < 2)
        throw hydralm::Error({.file = o.ids,
                              .field = "ids",
                              .expected = "at least 2, for a prediction",
                              .found = std::to_string(ids.size()),
                              .fix = "give a longer text"});
    std::vector<hydralm::token_id> labels(ids.begin() + 1, ids.end());
    labels.push_back(hydralm::kernels::ignore_index);
    hydralm::Gradients<Model> gradients(model, 1, static_cast<hydralm::Index>(ids.size()));
    gradients.refresh(model);
    auto state = model.new_state();
    state.reserve(static_cast<hydralm::Index>(ids.size()));
    const hydralm::Stream stream = state.stream();
    const auto loss = gradients.add(model, ids, labels, {&stream, 1},
                                    1.0 / static_cast<double>(labels.size() - 1));

    constexpr hydralm::DType dtype = sizeof(T) == 4 ? hydralm::DType::f32 : hydralm::DType::f64;
    const auto name = [](const hydralm::ParameterInfo& info) {
        return "grad." + std::string(info.name());
    };
    std::vector<hydralm::TensorSpec> tensors{{"loss", {1}, dtype}};
    for (const auto& info : model.parameters)
        tensors.push_back({name(info), {info.shape().begin(), info.shape().end()}, dtype});
    hydralm::SafetensorsWriter writer(o.out, tensors);
    const double modules = model.mtp_loss_weight * gradients.mtp_loss();  // 0 without any
    const std::vector<T> total{static_cast<T>(loss.mean() + modules)};
    writer.write("loss", std::span<const T>(total));
    gradients.for_each([&](const hydralm::ParameterInfo& info, std::span<const T> values) {
        writer.write(name(info), values);
    });
    writer.commit();
}

volatile std::sig_atomic_t interrupted = 0;

// The first signal ends the run in order, the second at once.
extern "C" void stop_after_this_step(int signal) {
    interrupted = 1;
    std::signal(signal, SIG_DFL);
}

hydralm::TrainerOptions trainer_options(const TrainOptions& t, std::int64_t steps) {
    hydralm::TrainerOptions options;
    const bool muon = t.optimizer == "muon";
    const double rate = t.lr > 0.0 ? t.lr : muon ? 2e-2 : 3e-3;
    options.optimiser.kind = muon ? hydralm::OptimiserKind::muon : hydralm::OptimiserKind::adamw;
    if (muon) options.optimiser.muon.rate = rate;
    else options.optimiser.adamw.rate = rate;
    options.rate = {.peak = rate,
                    .least = t.min_lr < 0.0 ? rate / 10 : t.min_lr,
                    .warmup = t.warmup >= 0 ? t.warmup : std::min<std::int64_t>(steps / 20, 100),
                    .total = steps};
    options.accumulate = t.accumulate;
    options.clip = t.clip;
    if (t.recompute) options.keep = hydralm::Keep::block_inputs;
    return options;
}

// Checkpoints of a run that writes model.safetensors lie in model.training, of one that writes
// another name in name.training.
std::filesystem::path run_directory(const Options& o) {
    if (!o.train.resume.empty()) return o.train.resume;
    std::filesystem::path directory(o.out);
    if (directory.extension() == ".safetensors") directory.replace_extension();
    return directory += ".training";
}

// Refuses before the training what could not be written after it.
void expect_writable(const std::filesystem::path& path) { hydralm::AtomicFile{path}; }

// What losses are given in: on a progress line, how many nats one is, and in the result.
struct LossUnit {
    const char* name;
    double nats;
    const char* in_nats;
    const char* field;
};
constexpr LossUnit bits_per_byte{"bits per byte", std::numbers::ln2, "nats per byte",
                                 "bits_per_byte"};
constexpr LossUnit bits_per_token{"bits per token", std::numbers::ln2, "nats per token",
                                  "bits_per_token"};
constexpr LossUnit nats_per_answer{"nats per answer", 1.0, "nats per answer", ""};

void print_progress(const hydralm::StepReport& step, const hydralm::RunReport& run,
                    std::int64_t steps, std::int64_t here, const LossUnit& unit) {
    static double last = -1.0;
    if (!speaks() || (step.step != steps && run.seconds - last < 1.0)) return;
    last = run.seconds;
    const double rate = static_cast<double>(run.tokens_here) / run.seconds;
    const double left =
        run.seconds / static_cast<double>(here) * static_cast<double>(steps - step.step);
    std::fprintf(stderr, "step %lld/%lld  loss %.4f %s", static_cast<long long>(step.step),
                 static_cast<long long>(steps), step.loss / unit.nats, unit.name);
    if (std::isfinite(run.validation_loss))
        std::fprintf(stderr, "  held out %.4f", run.validation_loss / unit.nats);
    std::fprintf(stderr, "  rate %.2e  %.0f tokens/s  ETA %.0f s\n", step.rate, rate, left);
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

// The ranks of a run, and what it has of each; empty on one.
template <class Model>
std::string bytes_of_moments(const hydralm::Trainer<Model>& trainer) {
    hydralm::Ranks& ranks = trainer.ranks();
    if (ranks.count() == 1) return "";
    std::string line = std::to_string(ranks.count()) + " ranks, bytes of moments of each:";
    for (const hydralm::Index bytes : ranks.gather(trainer.moment_bytes()))
        line += " " + std::to_string(bytes);
    return line + "\n";
}

void print_result(const hydralm::RunReport& report, const LossUnit& unit,
                  const hydralm::Ranks& ranks) {
    const auto number = [](double x) {
        return std::isfinite(x) ? hydralm::detail::Json(x).dump() : std::string("null");
    };
    const auto losses = [&](const std::string& suffix, double nats) {
        return "\"train_" + suffix + "\": " + number(report.train_loss / nats) + ", \"validation_" +
               suffix + "\": " + number(report.validation_loss / nats) + ", \"best_validation_" +
               suffix + "\": " + number(report.best_validation_loss / nats);
    };
    const auto traffic = ranks.traffic();
    const std::string spent = ranks.count() == 1
                                  ? ""
                                  : ", \"ranks\": " + std::to_string(ranks.count()) +
                                        ", \"bytes_sent\": " + std::to_string(traffic.bytes_sent) +
                                        ", \"communication_seconds\": " + number(traffic.seconds);
    std::printf(
        "{\"steps\": %lld, \"seconds\": %s, \"tokens_per_second\": %s, %s, \"loss_unit\": "
        "\"%s\"%s%s}\n",
        static_cast<long long>(report.steps), number(report.seconds).c_str(),
        number(report.seconds > 0.0 ? static_cast<double>(report.tokens_here) / report.seconds
                                    : 0.0)
            .c_str(),
        losses("loss", 1.0).c_str(), unit.in_nats,
        *unit.field != '\0' ? (", " + losses(unit.field, unit.nats)).c_str() : "", spent.c_str());
}

// Trains the model and writes it.
template <class Model>
void train_on(const Options& o, Model& model, const Lessons& lessons,
              const hydralm::TrainerOptions& trainer_options) {
    const TrainOptions& t = o.train;
    hydralm::Ranks& ranks = program_ranks();
    hydralm::Trainer<Model> trainer(model, trainer_options, ranks);
    ranks.on_first([&] { expect_writable(o.out); });
    const hydralm::RunOptions options{.steps = trainer_options.rate.total,
                                      .eval_every = t.eval_every,
                                      .eval_batches = lessons.eval_batches,
                                      .save_every = t.save_every,
                                      .keep = t.keep,
                                      .directory = run_directory(o),
                                      .log = t.log};
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
    ranks.on_first([&] { hydralm::save(model, o.out); });
    if (speaks()) print_result(report, lessons.unit, ranks);
}

std::uint32_t checksum(const hydralm::TextCorpus& corpus) {
    std::uint32_t sum = 0;
    for (const auto text : corpus.texts()) sum = hydralm::detail::crc_of(text, sum);
    return sum;
}

// How much of the text is read for what.
std::string sizes_line(hydralm::Index all, hydralm::Index read, hydralm::Index held_out,
                       std::int64_t seq_len, const char* unit) {
    const auto of = [&](hydralm::Index n) { return std::to_string(n); };
    std::string line =
        "text: " + of(read) + " " + unit + " to train on, " + of(held_out) + " held out";
    if (read < all)
        line += "; " + of(all - read) + " unread, in texts of at most " + of(seq_len) + " " + unit +
                ": give a smaller --seq-len to read them";
    return line + "\n";
}
std::string sizes_of(const hydralm::TextCorpus& training, const hydralm::TextCorpus& validation,
                     std::int64_t seq_len) {
    return sizes_line(training.size(), training.bytes_in_longer_than(seq_len), validation.size(),
                      seq_len, "bytes");
}
std::string sizes_of(const hydralm::TokenCorpus& training, const hydralm::TokenCorpus& validation,
                     std::int64_t seq_len) {
    return sizes_line(training.size(), training.tokens_in_longer_than(seq_len), validation.size(),
                      seq_len, "tokens");
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
             trainer_options(t, t.steps));
}

// The tokenizer that --tokenizer names, or that of the checkpoint training begins from, or bytes.
ProgramTokenizer training_tokenizer(const Options& o) {
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
    tokenizer.expect_fits(model.vocab_size());
    // Pieces are cut in bytes; of published tokenizers a token is rarely longer than 8.
    const auto [training, validation] = hydralm::TextCorpus(t.text).split(
        0.05, o.seed, tokenizer.is_bytes() ? t.seq_len : 8 * t.seq_len);
    const std::string data = ",\"training_bytes\":" + std::to_string(training.size()) +
                             ",\"training_crc32\":" + std::to_string(checksum(training)) +
                             ",\"validation_bytes\":" + std::to_string(validation.size()) +
                             ",\"validation_crc32\":" + std::to_string(checksum(validation));
    if (tokenizer.is_bytes()) {
        ranks.on_first([&] { expect_no_tokenizer(o.out); });
        train_on_corpora<hydralm::RandomWindows>(o, model, training, validation, bits_per_byte,
                                                 data);
        return;
    }
    const std::string text = read_text(tokenizer.file().string());
    ranks.on_first([&] { expect_writable(tokenizer_file_of(o.out)); });
    train_on_corpora<hydralm::RandomTokenWindows>(
        o, model, hydralm::TokenCorpus(training, tokenizer),
        hydralm::TokenCorpus(validation, tokenizer), bits_per_token,
        data + ",\"tokenizer_crc32\":" +
            std::to_string(hydralm::detail::crc_of(std::as_bytes(std::span(text)), 0)));
    ranks.on_first([&] { save_tokenizer(text, o.out); });
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
    if (stages.front().skip_deltanet && t.init.empty()) silence_deltanet(model);
    auto options = trainer_options(t, source.steps());
    options.optimiser.adamw.decay = 0.01;
    if (t.warmup < 0) options.rate.warmup = 50;
    options.rate.hold = options.rate.total * 6 / 10;
    options.frozen = [&source, &model](const hydralm::ParameterInfo& info, std::int64_t step) {
        return source.stage(static_cast<std::uint64_t>(step)).skip_deltanet &&
               in_mixer(model, info, hydralm::LayerType::deltanet);
    };
    const hydralm::MappedFile file(t.stages);
    const auto text = hydralm::detail::parse_json(file.text(), file.name(), "").dump();
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
