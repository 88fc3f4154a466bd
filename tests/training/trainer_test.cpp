// Trainer and TrainingRun: it learns, resumes bit for bit, stops where a number is not finite, and
// loses nothing.
#include <cmath>
#include <cstring>

#include "hydralm/model/initialise.hpp"
#include "hydralm/training.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/shared_gradients.hpp"
#include "support/small_stack.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_trained>;

Model fresh_model() {
    Model model;
    initialise(model, 1, InitScheme::fan_in);
    return model;
}

std::vector<float> weights_of(const Model& model) {
    std::vector<float> all;
    model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        all.insert(all.end(), values.begin(), values.end());
    });
    return all;
}

TrainerOptions options_of(OptimiserKind kind, std::int64_t steps) {
    TrainerOptions options;
    options.optimiser.kind = kind;
    options.optimiser.adamw.rate = 1e-2;
    options.rate = {.peak = 1e-2, .least = 1e-3, .warmup = 2, .total = steps};
    return options;
}

// A text a model can learn, on disk.
struct Text {
    TemporaryDirectory folder;
    Text() {
        std::string text;
        for (int i = 0; i < 400; ++i) text += "the cat sat on the mat; ";
        write_text(folder / "text", text);
    }
    TextCorpus corpus() const { return TextCorpus({(folder / "text").string()}); }
};

// Batches that a test made.
struct Given : BatchSource {
    std::vector<Batch> batches;
    std::size_t at = 0;

    // Of tokens first, first + 1, …, each labelled with the next.
    void add(Index streams, Index length, token_id first, bool fresh = true) {
        Batch batch{
            .streams = streams, .length = length, .tokens = {}, .labels = {}, .fresh = fresh};
        for (Index i = 0; i < streams * length; ++i) {
            batch.tokens.push_back(first + static_cast<token_id>(i));
            batch.labels.push_back(first + static_cast<token_id>(i + 1));
        }
        batches.push_back(batch);
    }
    void next(Batch& batch) override { batch = batches[at++ % batches.size()]; }
    std::uint64_t position() const override { return at; }
    void seek(std::uint64_t position) override { at = position; }
};

const auto never = [] { return false; };
const auto silent = [](const auto&, const auto&) {};

}  // namespace

TEST_CASE("A trainer learns, with either optimiser", "[trainer]") {
    const Text text;
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon}) {
        Model model = fresh_model();
        RandomWindows source(text.corpus(), 4, 32, 1);
        ConsecutiveChunks held_out(text.corpus(), 2, 40);
        Evaluator<Model> evaluator(model, 2, 40);
        const double before = evaluator.loss(model, held_out, 5);
        CHECK(before > 4.0);
        Trainer<Model> trainer(model, options_of(kind, 60));
        StepReport last;
        for (int i = 0; i < 60; ++i) last = trainer.step(source);
        CHECK(last.step == 60);
        CHECK(last.tokens == 128);
        CHECK(last.loss < 1.5);
        CHECK(evaluator.loss(model, held_out, 5) < 1.5);
    }
}

TEST_CASE("Frozen parameters are left as they are, step by step", "[trainer]") {
    const Text text;
    Model model = fresh_model();
    RandomWindows source(text.corpus(), 2, 16, 1);
    auto options = options_of(OptimiserKind::adamw, 9);
    options.frozen = [](const ParameterInfo& info, std::int64_t step) {
        return step < 2 && info.name().starts_with("blocks.0.");
    };
    Trainer<Model> trainer(model, options);
    for (int step = 0; step < 3; ++step) {
        const auto before = weights_of(model);
        trainer.step(source);
        const auto after = weights_of(model);
        std::size_t first = 0;
        for (const auto& info : Model::parameters) {
            const auto n = static_cast<std::ptrdiff_t>(info.size());
            const auto a = before.begin() + static_cast<std::ptrdiff_t>(first);
            const auto b = after.begin() + static_cast<std::ptrdiff_t>(first);
            const bool frozen = step < 2 && info.name().starts_with("blocks.0.");
            INFO(info.name() << ", step " << step);
            CHECK(std::equal(a, a + n, b) == frozen);
            first += static_cast<std::size_t>(n);
        }
    }
}

TEST_CASE("Batches accumulated are one batch", "[trainer]") {
    const Text text;
    Model one = fresh_model(), two = fresh_model();
    auto options = options_of(OptimiserKind::adamw, 4);
    ConsecutiveChunks whole(text.corpus(), 1, 32), halves(text.corpus(), 1, 16);
    Trainer<Model> large(one, options);
    options.accumulate = 2;
    Trainer<Model> small(two, options);
    const auto a = large.step(whole), b = small.step(halves);
    CHECK(a.loss == Approx(b.loss).epsilon(1e-6));
    CHECK(a.tokens == b.tokens);
}

// The sum of terms [first, first + n): of halves, the left one with the largest power of two below
// n.
std::vector<float> tree_sum(const std::vector<std::vector<float>>& terms, std::size_t first,
                            std::size_t n) {
    if (n == 1) return terms[first];
    std::size_t left = 1;
    while (2 * left < n) left *= 2;
    auto a = tree_sum(terms, first, left);
    const auto b = tree_sum(terms, first + left, n - left);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

TEST_CASE("Batches of any shape are accumulated in the fixed tree", "[trainer]") {
    for (const int accumulate : {1, 2, 3, 4, 6}) {
        INFO(accumulate << " batches");
        Given source;
        for (int i = 0; i < accumulate; ++i)
            source.add(i % 3 == 2 ? 1 : 2, i % 2 == 0 ? 8 : 16, 20 + 30 * i);
        const Model start = fresh_model();
        std::vector<std::vector<float>> gradients;
        double loss = 0.0;
        Index tokens = 0;
        for (const Batch& batch : source.batches) {
            Gradients<Model> one(start, batch.streams, batch.length);
            one.refresh(start);
            BatchStates<Model> states(start, batch.streams);
            loss += one.add(start, batch.tokens, batch.labels, states.streams(batch.length),
                            1.0 / static_cast<double>(static_cast<std::size_t>(accumulate) *
                                                      batch.tokens.size()))
                        .mean();
            gradients.emplace_back(one.values().begin(), one.values().end());
            tokens += batch.streams * batch.length;
        }
        auto sum = tree_sum(gradients, 0, gradients.size());
        double square = 0.0;
        for (const ParameterBlock& block : parameter_blocks(Model::parameters))
            square += sum_of_squares(std::span<const float>(sum).subspan(
                static_cast<std::size_t>(block.first), static_cast<std::size_t>(block.size)));

        Model model = fresh_model();
        auto options = options_of(OptimiserKind::muon, 4);
        options.accumulate = accumulate;
        options.clip = 0.1;
        Trainer<Model> trainer(model, options);
        const auto report = trainer.step(source);
        CHECK(report.gradient_norm == std::sqrt(square));
        CHECK(report.gradient_norm > options.clip);
        CHECK(report.loss == Approx(loss / accumulate).epsilon(1e-14));
        CHECK(report.tokens == tokens);

        auto expected = weights_of(start);
        scale_gradient<float>(sum, options.clip / report.gradient_norm);
        Optimiser<Model> optimiser(start, options.optimiser);
        optimiser.step(expected, sum, options.rate(0) / options.rate.peak);
        CHECK(weights_of(model) == expected);
    }
}

TEST_CASE("Recomputation and threads change no bit", "[trainer]") {
    const Text text;
    std::vector<float> expected;
    const int before = num_threads();
    for (const int threads : {1, 3})
        for (const Keep keep : {Keep::everything, Keep::block_inputs}) {
            set_num_threads(threads);
            Model model = fresh_model();
            auto options = options_of(OptimiserKind::muon, 4);
            options.keep = keep;
            Trainer<Model> trainer(model, options);
            ConsecutiveChunks source(text.corpus(), 3, 21);
            for (int i = 0; i < 4; ++i) trainer.step(source);
            const auto found = weights_of(model);
            INFO(threads << " threads, keep " << static_cast<int>(keep));
            if (expected.empty()) expected = found;
            CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
        }
    set_num_threads(before);
    const Model any;
    CHECK(Gradients<Model>::tape_bytes(any, 4, 64, Keep::block_inputs) <
          Gradients<Model>::tape_bytes(any, 4, 64));
}

TEST_CASE("A run that is stopped and resumed is the run that was not", "[trainer]") {
    const Text text;
    const auto train = [&](const std::filesystem::path& directory, int stop_after, bool resume) {
        Model model = fresh_model();
        ConsecutiveChunks source(text.corpus(), 2, 24), held_out(text.corpus(), 2, 24);
        Trainer<Model> trainer(model, options_of(OptimiserKind::adamw, 12));
        const RunOptions options{.steps = 12,
                                 .eval_every = 4,
                                 .eval_batches = 2,
                                 .save_every = 3,
                                 .keep = 2,
                                 .directory = directory,
                                 .log = directory / "log"};
        TrainingRun<Model> run(trainer, source, &held_out, options, "{\"seed\":1}");
        if (resume) run.resume([](const std::string&) { FAIL("nothing to warn of"); });
        else {
            std::filesystem::create_directory(directory);
            write_text(options.log, "lines of other programs stay\n");
        }
        int steps = 0;
        const auto report = run.run([&] { return ++steps == stop_after; }, silent);
        CHECK(report.interrupted == (stop_after > 0));
        return std::pair(weights_of(model), report);
    };
    const auto [expected, whole] = train(text.folder / "whole", 0, false);
    for (const int stop : {1, 4, 6, 11}) {
        const auto directory = text.folder / ("stopped-" + std::to_string(stop));
        train(directory, stop, false);
        const auto [found, report] = train(directory, 0, true);
        CHECK(found == expected);
        CHECK(report.train_loss == whole.train_loss);
        CHECK(report.validation_loss == whole.validation_loss);
        CHECK(report.best_validation_loss == whole.best_validation_loss);
        CHECK(report.steps == 12);
        const auto lines = read_text(directory / "log");
        CHECK(lines.starts_with("lines of other programs stay\n"));
        CHECK(std::count(lines.begin(), lines.end(), '\n') == 13);
        int kept = 0;
        for (const auto& entry : std::filesystem::directory_iterator(directory))
            kept += entry.path().extension() == ".train";
        CHECK(kept == 2);
        CHECK_NOTHROW(load<Model>(directory / "best.safetensors"));
    }
}

TEST_CASE("A run that was stopped goes on when it is run again", "[trainer]") {
    const Text text;
    std::vector<float> expected;
    for (const int stop : {0, 2}) {
        Model model = fresh_model();
        RandomWindows source(text.corpus(), 2, 16, 1);
        Trainer<Model> trainer(model, options_of(OptimiserKind::adamw, 5));
        TrainingRun<Model> run(trainer, source, nullptr, {.steps = 5, .directory = {}}, "{}");
        int steps = 0;
        auto report = run.run([&] { return ++steps == stop; }, silent);
        CHECK(report.interrupted == (stop > 0));
        if (report.interrupted) report = run.run(never, silent);
        CHECK_FALSE(report.interrupted);
        CHECK(report.steps == 5);
        CHECK(report.tokens_here == (5 - stop) * 32);
        if (stop == 0) expected = weights_of(model);
        else CHECK(weights_of(model) == expected);
    }
}

TEST_CASE("A description of a run is a JSON object", "[trainer]") {
    const Text text;
    RandomWindows source(text.corpus(), 2, 16, 1);
    Model model = fresh_model();
    Trainer<Model> trainer(model, options_of(OptimiserKind::adamw, 6));
    const RunOptions options{.steps = 6, .directory = text.folder / "run", .log = {}};
    const auto described = [&](const char* description) {
        return [&, description] {
            TrainingRun<Model>(trainer, source, nullptr, options, description);
        };
    };
    check_error(described("seed 1"), {"description: expected JSON"});
    check_error(described("[1]"), {"description: expected a JSON object, found [1]"});
    CHECK(!std::filesystem::exists(text.folder / "run"));
}

TEST_CASE("A damaged checkpoint falls back to the one before", "[trainer]") {
    const Text text;
    const auto directory = text.folder / "run";
    const RunOptions run_options{
        .steps = 6, .save_every = 2, .keep = 3, .directory = directory, .log = {}};
    const auto open = [&](Model& model, auto&& use, std::int64_t steps = 6) {
        RandomWindows source(text.corpus(), 2, 16, 1);
        Trainer<Model> trainer(model, options_of(OptimiserKind::adamw, steps));
        TrainingRun<Model> run(trainer, source, nullptr, run_options, "{}");
        use(trainer, run);
    };
    Model model = fresh_model();
    open(model, [](auto&, auto& run) { run.run(never, silent); });
    const auto newest = directory / "step-000000006.train";
    auto bytes = read_text(newest);
    bytes[bytes.size() / 2] ^= 1;
    write_text(newest, bytes);
    Model other = fresh_model();
    open(other, [&](auto& trainer, auto& run) {
        std::vector<std::string> warnings;
        run.resume(
            [&](const std::string& text_of_warning) { warnings.push_back(text_of_warning); });
        CHECK(warnings.size() == 1);
        CHECK(trainer.steps() == 4);
        run.run(never, silent);
    });
    CHECK(weights_of(other) == weights_of(model));
    open(other, [&](auto&, auto& run) {
        CHECK_THROWS_WITH(run.run(never, silent), containing("no checkpoints of another run"));
    });
    open(
        other,
        [&](auto&, auto& run) {
            CHECK_THROWS_WITH(run.resume([](const std::string&) {}), containing("training.rate"));
        },
        7);
    std::filesystem::remove_all(directory);
    open(other, [&](auto&, auto& run) {
        CHECK_THROWS_WITH(run.resume([](const std::string&) {}), containing("step-<number>"));
    });
}

TEST_CASE("A checkpoint that was passed over does not count", "[trainer]") {
    const Text text;
    const auto directory = text.folder / "run";
    const auto open = [&](auto&& use) {
        Model model = fresh_model();
        RandomWindows source(text.corpus(), 2, 16, 1);
        Trainer<Model> trainer(model, options_of(OptimiserKind::adamw, 6));
        const RunOptions options{.steps = 6, .save_every = 2, .keep = 1, .directory = directory};
        TrainingRun<Model> run(trainer, source, nullptr, options, "{}");
        use(trainer, run);
    };
    int steps = 0;
    open([&](auto&, auto& run) { run.run([&] { return ++steps == 3; }, silent); });
    const auto later = directory / "step-000000005.train";
    write_text(later, "no checkpoint");
    open([&](auto& trainer, auto& run) {
        int warnings = 0;
        run.resume([&](const std::string&) { ++warnings; });
        CHECK(warnings == 1);
        CHECK(trainer.steps() == 3);
        run.run([] { return true; }, silent);
    });
    CHECK_FALSE(std::filesystem::exists(directory / "step-000000003.train"));
    CHECK(read_text(later) == "no checkpoint");
    open([](auto& trainer, auto& run) {
        run.resume([](const std::string&) {});
        CHECK(trainer.steps() == 4);
        run.run(never, silent);
    });
    open([](auto& trainer, auto& run) {
        CHECK_THROWS_WITH(run.save(), containing("no checkpoints of another run"));
        run.resume([](const std::string&) {});
        CHECK(trainer.steps() == 6);
    });
}

TEST_CASE("A checkpoint whose numbers contradict its bytes is refused", "[trainer]") {
    const Text text;
    Model model = fresh_model();
    ConsecutiveChunks source(text.corpus(), 2, 16);
    Trainer<Model> trainer(model, options_of(OptimiserKind::adamw, 1));
    trainer.step(source);
    auto sections = trainer.sections();
    std::array<std::int64_t, 5> good{};
    REQUIRE(sections[0].name == "progress");
    std::memcpy(good.data(), sections[0].bytes.data(), sizeof(good));
    REQUIRE(good[4] == 2);
    const auto path = text.folder / "checkpoint";
    const auto restore = [&](std::array<std::int64_t, 5> progress) {
        sections[0] = state_section("progress", std::span<const std::int64_t>(progress));
        save_state(path, "{}", sections);
        trainer.restore(StateFile(path, "{}"));
    };
    constexpr auto largest = std::numeric_limits<std::int64_t>::max();
    for (const std::int64_t streams :
         {std::int64_t{-1}, std::int64_t{1}, std::int64_t{3}, largest}) {
        auto wrong = good;
        wrong[4] = streams;
        check_error([&] { restore(wrong); },
                    {"states: expected " + std::to_string(streams) + " streams of"});
    }
    for (const std::int64_t position : {std::int64_t{-1}, largest}) {
        auto wrong = good;
        wrong[3] = position;
        check_error([&] { restore(wrong); }, {"position: expected a number of tokens"});
    }
    CHECK_NOTHROW(restore(good));

    // A section too few, or of another size: the trainer is what it was.
    trainer.step(source);
    const auto read = [&] {
        const auto now = trainer.sections()[1].bytes;
        return std::vector<std::byte>(now.begin(), now.end());
    };
    const auto before = read();
    auto fewer = trainer.sections();
    fewer.erase(fewer.begin() + 3);
    save_state(path, "{}", fewer);
    check_error([&] { trainer.restore(StateFile(path, "{}")); }, {"second_moment: expected"});
    CHECK(read() == before);
    BatchStates<Model> states(model, 2);
    auto bytes = states.bytes();
    bytes.push_back(std::byte{0});
    check_error([&] { states.restore(bytes, {}, 0); },
                {"states: expected the bytes of 2 streams, found " + std::to_string(bytes.size())});
}

TEST_CASE("An evaluation refuses labels and shapes", "[trainer]") {
    const Model model = fresh_model();
    Evaluator<Model> evaluator(model, 2, 8);
    Given source;
    source.add(2, 8, 40);
    CHECK(std::isfinite(evaluator.loss(model, source, 1)));
    Given wrong = source;
    wrong.batches[0].labels[15] = 256;
    check_error([&] { evaluator.loss(model, wrong, 1); },
                {"label 15: expected an id in [0, 256), or -100 for none, found 256"});
    wrong.batches[0].labels.pop_back();
    check_error([&] { evaluator.loss(model, wrong, 1); }, {"labels: expected 16", "found 15"});
    wrong.batches[0].tokens.pop_back();
    check_error([&] { evaluator.loss(model, wrong, 1); },
                {"batch: expected 2 streams of 8, found 2 of 8, 15 tokens"});
}

TEST_CASE("A number that is not finite stops the run or leaves the step out", "[trainer]") {
    const Text text;
    for (const NonFinite choice : {NonFinite::stop, NonFinite::skip}) {
        Model model = fresh_model();
        model.set_parameters(
            [first = true](const ParameterInfo& info, std::span<float> values) mutable {
                std::fill(values.begin(), values.end(), 0.01F);
                if (first || info.name() == "blocks.1.mlp.w_down.weight")
                    values[3] = first ? 0.02F : std::numeric_limits<float>::infinity();
                first = false;
            });
        auto options = options_of(OptimiserKind::adamw, 4);
        options.non_finite = choice;
        Trainer<Model> trainer(model, options);
        RandomWindows source(text.corpus(), 2, 16, 1);
        const auto before = weights_of(model);
        if (choice == NonFinite::stop) {
            CHECK_THROWS_WITH(
                trainer.step(source),
                containing("step 1") && containing("weight blocks.1.mlp.w_down.weight"));
        } else {
            CHECK(trainer.step(source).skipped);
            CHECK(trainer.steps() == 1);
        }
        CHECK(weights_of(model) == before);
    }
    auto options = options_of(OptimiserKind::adamw, 4);
    options.accumulate = 0;
    Model model = fresh_model();
    CHECK_THROWS_WITH(Trainer<Model>(model, options), containing("accumulate"));
}

TEST_CASE("A step left out leaves carried streams as they were", "[trainer]") {
    static constexpr HydraConfig untied_config = [] {
        auto c = small_trained;
        c.tie_embeddings = false;
        return c;
    }();
    using Untied = HydraLM<untied_config>;
    auto options = options_of(OptimiserKind::adamw, 9);
    options.non_finite = NonFinite::skip;
    for (const bool anew : {false, true}) {
        Given source;
        source.add(1, 8, 20);
        source.add(1, 8, 196, anew);
        source.add(1, 8, 30, false);
        Untied model;
        initialise(model, 1, InitScheme::fan_in);
        std::vector<float> all;
        model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
            all.insert(all.end(), values.begin(), values.end());
        });
        REQUIRE(Model::parameters[0].name() == "embed.weight");
        all[200 * small_trained.d_model] = std::numeric_limits<float>::quiet_NaN();  // of token 200
        model.set_parameters(
            [next = all.data()](const ParameterInfo&, std::span<float> values) mutable {
                std::copy_n(next, values.size(), values.data());
                next += values.size();
            });
        Trainer<Untied> trainer(model, options);
        const auto first = trainer.step(source);
        CHECK(std::isfinite(first.loss));
        CHECK(std::isfinite(first.gradient_norm));
        CHECK_FALSE(first.skipped);
        CHECK(trainer.step(source).skipped);
        const auto sections = trainer.sections();
        std::array<std::int64_t, 5> progress{};
        std::memcpy(progress.data(), sections[0].bytes.data(), sizeof(progress));
        CHECK(progress[3] == (anew ? 0 : 8));  // tokens of the stream
        const auto report = trainer.step(source);
        CHECK_FALSE(report.skipped);
        CHECK(std::isfinite(report.loss));
    }
}

TEST_CASE("A training step takes 128 KiB of stack", "[trainer][stack]") {
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon}) {
        Model model = fresh_model();
        Trainer<Model> trainer(model, options_of(kind, 4));
        Given source;
        source.add(3, 40, 1);
        if constexpr (frames_are_plain)
            CHECK(stack_bytes([&] { trainer.step(source); }) <= stack_of_training);
    }
}
