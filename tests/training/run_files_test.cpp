// What a training run reads and writes: checkpoints of numbers that training does not come to, and
// updates that have none; a log that is no file, a log that is full; what killed runs left.
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <limits>

#include "hydralm/training.hpp"
#include "support/files.hpp"
#include "support/shared_gradients.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_trained>;
using Progress = std::array<std::int64_t, 5>;

constexpr auto not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr auto infinity = std::numeric_limits<float>::infinity();
constexpr auto largest = std::numeric_limits<std::int64_t>::max();

// A trainer after one step of a run, the run's directory empty.
struct Begun {
    TemporaryDirectory folder;
    Model model = random_model<Model>(1);
    RandomWindows source;
    Trainer<Model> trainer;

    explicit Begun(const TrainerOptions& options = {})
        : source(text(), 2, 8, 1), trainer(model, options) {}

    TextCorpus text() const {
        write_text(folder / "text", "the cat sat on the mat; the dog sat on the log");
        return TextCorpus({(folder / "text").string()});
    }
    TrainingRun<Model> run(std::int64_t steps) {
        return {trainer, source, nullptr, {.steps = steps, .directory = folder / "run"}, "{}"};
    }
};

// Of all a trainer carries on.
std::string bits(Trainer<Model>& trainer) {
    std::string all;
    for (const StateSection& section : trainer.sections())
        all.append(reinterpret_cast<const char*>(section.bytes.data()), section.bytes.size());
    return all;
}

void set_progress(Trainer<Model>& trainer, const std::filesystem::path& path, std::size_t i,
                  std::int64_t value) {
    auto sections = trainer.sections();
    Progress progress{};
    std::memcpy(progress.data(), sections[0].bytes.data(), sizeof(progress));
    progress[i] = value;
    sections[0] = state_section("progress", std::span<const std::int64_t>(progress));
    save_state(path, "{}", sections);
}

// A run of 9 steps; resumed, or from the beginning.
void train(const TemporaryDirectory& folder, const std::filesystem::path& log, bool resume = false,
           std::vector<float>* weights = nullptr) {
    write_text(folder / "text", "the cat sat on the mat; the dog sat on the log");
    Model model = random_model<Model>(1);
    RandomWindows source(TextCorpus({(folder / "text").string()}), 2, 8, 1);
    Trainer<Model> trainer(model, {});
    TrainingRun<Model> run(trainer, source, nullptr,
                           {.steps = 9, .directory = folder / "run", .log = log}, "{}");
    if (resume) run.resume([](const std::string&) { FAIL("nothing to warn of"); });
    run.run([] { return false; }, [](const auto&, const auto&) {});
    if (weights != nullptr)
        model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
            weights->insert(weights->end(), values.begin(), values.end());
        });
}

// No file of this process grows beyond so many bytes, as on a full disk.
class NoRoom {
public:
    explicit NoRoom(rlim_t bytes) : before_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &limit_);
        const rlimit small{bytes, limit_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &small);
    }
    NoRoom(const NoRoom&) = delete;
    NoRoom& operator=(const NoRoom&) = delete;
    ~NoRoom() {
        ::setrlimit(RLIMIT_FSIZE, &limit_);
        std::signal(SIGXFSZ, before_);
    }

private:
    void (*before_)(int);
    rlimit limit_{};
};

}  // namespace

TEST_CASE("A checkpoint of impossible steps or tokens is refused", "[restore]") {
    Begun begun;
    begun.trainer.step(begun.source);
    const auto path = begun.folder / "checkpoint";
    const std::string before = bits(begun.trainer);
    const auto refused = [&](std::size_t i, std::int64_t value, const std::string& expected) {
        set_progress(begun.trainer, path, i, value);
        check_error([&] { begun.trainer.restore(StateFile(path, "{}"), 7); },
                    {path.string(), expected + ", found " + std::to_string(value),
                     "resume from another checkpoint of the run"});
        CHECK(bits(begun.trainer) == before);
    };
    for (const std::int64_t steps : {std::int64_t{-1}, -(std::int64_t{1} << 40), std::int64_t{8},
                                     std::int64_t{1} << 62, largest})
        refused(0, steps, "steps: expected a number in [0, 7]");
    for (const std::int64_t tokens : {std::int64_t{-1}, (std::int64_t{1} << 48) + 1, largest})
        refused(1, tokens,
                "tokens: expected a number in [0, " + std::to_string(std::int64_t{1} << 48) + "]");
    for (const std::int64_t steps : {std::int64_t{-1}, std::int64_t{2}, largest})
        refused(2, steps, "optimiser steps: expected a number in [0, 1]");

    set_progress(begun.trainer, path, 0, 7);
    CHECK_NOTHROW(begun.trainer.restore(StateFile(path, "{}"), 7));
    CHECK(begun.trainer.steps() == 7);
    set_progress(begun.trainer, path, 0, largest);
    check_error([&] { begun.trainer.restore(StateFile(path, "{}")); }, {"steps: expected"});
}

TEST_CASE("A checkpoint of more steps than its run has is refused", "[restore]") {
    Begun begun;
    begun.run(3).run([] { return false; }, [](const auto&, const auto&) {});
    const auto path = begun.folder / "run" / "step-000000003.train";
    const std::string whole = read_text(path);
    const std::string steps{3, 0, 0, 0, 0, 0, 0, 0}, more{4, 0, 0, 0, 0, 0, 0, 0};
    const auto place = whole.find(steps);
    REQUIRE(place % 64 == 0);
    std::string bytes = whole;
    bytes.replace(place, more.size(), more);
    const auto end = bytes.size() - sizeof(std::uint32_t);
    const auto crc = hydralm::crc32(std::as_bytes(std::span(bytes).first(end)));
    std::memcpy(bytes.data() + end, &crc, sizeof(crc));
    write_text(path, bytes);
    Begun other;
    std::filesystem::rename(begun.folder / "run", other.folder / "run");
    check_error([&] { other.run(3).resume([](const std::string&) {}); },
                {"step-000000003.train: steps: expected a number in [0, 3], found 4"});
    CHECK(other.trainer.steps() == 0);
}

TEST_CASE("A checkpoint whose weights or moments are not finite is refused", "[restore]") {
    Begun begun;
    begun.trainer.step(begun.source);
    const auto path = begun.folder / "checkpoint";
    const std::string before = bits(begun.trainer);
    const std::string last(Model::parameters.back().name());
    const auto save_with = [&](std::size_t section, float value) {
        auto sections = begun.trainer.sections();
        std::vector<float> values(sections[section].bytes.size() / sizeof(float));
        std::memcpy(values.data(), sections[section].bytes.data(), sections[section].bytes.size());
        values.back() = value;
        sections[section].bytes = std::as_bytes(std::span(values));
        save_state(path, "{}", sections);
    };
    for (const auto& [section, name] : {std::pair(1U, "parameters"), std::pair(2U, "first_moment"),
                                        std::pair(3U, "second_moment")})
        for (const float value : {not_a_number, infinity, -infinity}) {
            save_with(section, value);
            check_error([&] { begun.trainer.restore(StateFile(path, "{}")); },
                        {std::string(name) + " of " + last + ": expected finite values"});
            CHECK(bits(begun.trainer) == before);
        }
    save_with(3, -1e-9F);
    check_error([&] { begun.trainer.restore(StateFile(path, "{}")); },
                {"second_moment of " + last + ": expected finite values from 0 up, found -1e-09"});
    save_with(2, -1e-9F);
    CHECK_NOTHROW(begun.trainer.restore(StateFile(path, "{}")));

    // A run that skips may have begun with such weights.
    Begun skipping({.non_finite = NonFinite::skip});
    save_with(1, not_a_number);
    CHECK_NOTHROW(skipping.trainer.restore(StateFile(path, "{}")));
    save_with(2, not_a_number);
    check_error([&] { skipping.trainer.restore(StateFile(path, "{}")); }, {"first_moment of"});
}

TEST_CASE("An update that is not finite never reaches the model", "[restore]") {
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon})
        for (const NonFinite choice : {NonFinite::stop, NonFinite::skip}) {
            TrainerOptions options;
            options.optimiser = {.kind = kind, .adamw = {.rate = 1e308}, .muon = {.rate = 1e308}};
            options.rate = {.peak = 1e308, .least = 0.0};
            options.non_finite = choice;
            Begun begun(options);
            const auto weights = [&] {
                std::vector<float> all;
                begun.model.get_parameters(
                    [&](const ParameterInfo&, std::span<const float> values) {
                        all.insert(all.end(), values.begin(), values.end());
                    });
                return all;
            };
            const auto before = weights();
            check_error([&] { begun.trainer.step(begun.source); },
                        {"step 1: expected a finite update, found NaN or infinity in weights or "
                         "moments of embed.weight"});
            CHECK(weights() == before);
            CHECK(begun.trainer.steps() == 0);
            check_error([&] { begun.run(2).run([] { return false; }, [](auto&, auto&) {}); },
                        {"a finite update"});
            CHECK(std::filesystem::is_empty(begun.folder / "run"));
        }
}

TEST_CASE("Rates and bounds that are not finite are refused in few digits", "[restore]") {
    const auto refused = [](const TrainerOptions& options, const std::string& message) {
        Model model;
        check_error([&] { Trainer<Model>(model, options); }, {message + ";"});
    };
    refused({.clip = infinity}, "clip: expected a finite number, at least 0, found inf");
    refused({.clip = not_a_number}, "clip: expected a finite number, at least 0, found nan");
    refused({.rate = {.peak = infinity}},
            "learning rate: expected a finite number above 0, found inf");
    for (const auto& [least, found] : {std::pair<double, const char*>(not_a_number, "nan"),
                                       {infinity, "inf"},
                                       {1.7e308, "1.7e+308"},
                                       {-1e-9, "-1e-09"}})
        refused(
            {.rate = {.least = least}},
            std::string("least learning rate: expected in [0, the learning rate], found ") + found);
}

TEST_CASE("A log that cannot be written is refused before the first step", "[log]") {
    const TemporaryDirectory folder;
    std::filesystem::create_directory(folder / "directory");
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    write_text(folder / "file", "");
    const std::vector<std::pair<std::filesystem::path, std::string>> cases{
        {folder / "directory", "found Is a directory"},
        {folder / "pipe", "found No such device or address"},  // nobody reads it
        {folder / "none" / "log", "found No such file or directory; create its directory"},
        {folder / "file" / "log", "found Not a directory"}};
    for (const auto& [log, part] : cases) {
        check_error([&] { train(folder, log); },
                    {log.string() + ": expected a log to append to, new or existing, ", part});
        CHECK(std::filesystem::is_empty(folder / "run"));
    }
    train(folder, {});
    for (const auto& [log, part] : cases) check_error([&] { train(folder, log, true); }, {part});
    const TemporaryDirectory other;
    train(other, "/dev/null");
}

TEST_CASE("A log that takes no more lines costs no step", "[log]") {
    const TemporaryDirectory folder, whole;
    std::vector<float> expected, found;
    train(whole, whole / "log", false, &expected);
    const auto lines = [](const std::string& text) {
        return std::count(text.begin(), text.end(), '\n');
    };
    // The log is all but at the limit, which no checkpoint comes near.
    const std::string old(1 << 20, '\n');
    write_text(folder / "log", old);
    {
        const NoRoom limit(old.size() + 500);
        check_error([&] { train(folder, folder / "log"); },
                    {"log: expected to append a line, found File too large; free some space or "
                     "choose another path, then resume the run"});
    }
    const std::string log = read_text(folder / "log");
    const auto written = lines(log) - std::ssize(old);
    CHECK(written > 0);
    CHECK(written < 9);
    CHECK(log.ends_with("}\n"));
    CHECK(std::filesystem::exists(folder / "run" /
                                  ("step-00000000" + std::to_string(written + 1) + ".train")));
    train(folder, folder / "other log", true, &found);
    CHECK(found == expected);
    CHECK(lines(read_text(folder / "other log")) == 9 - written - 1);
}

TEST_CASE("A log that is full on the disk of the checkpoints says so, and those before stay",
          "[log]") {
    const TemporaryDirectory folder;
    std::vector<float> expected, found;
    train(folder, {}, false, &expected);
    std::filesystem::remove_all(folder / "run");
    {
        const NoRoom limit(300);  // no checkpoint is so small
        check_error(
            [&] { train(folder, folder / "log"); },
            {"log: expected to append a line, found File too large, nor was a checkpoint saved: "
             "File too large"});
    }
    CHECK(std::filesystem::is_empty(folder / "run"));
    train(folder, folder / "log", false, &found);
    CHECK(found == expected);
}

TEST_CASE("What killed saves left is removed, what others write is not", "[log]") {
    const TemporaryDirectory folder;
    const ::pid_t gone = ::fork();
    if (gone == 0) ::_exit(0);
    REQUIRE(::waitpid(gone, nullptr, 0) == gone);
    const std::string dead = "." + std::to_string(gone), own = "." + std::to_string(::getpid()),
                      alive = "." + std::to_string(::getppid());
    train(folder, {});
    const auto run = folder / "run";
    const std::vector<std::string> left{"step-000000004.train" + dead + "-17.tmp",
                                        "best.safetensors" + dead + "-99999999999999999999.tmp",
                                        "step-000000004.train" + own + "-17.tmp"},
        others{"step-000000004.train" + alive + "-17.tmp",
               "notes" + dead + "-17.tmp",
               "best.safetensors" + dead + ".tmp",
               "best.safetensors.tmp",
               "step-.train.-1-1.tmp",
               "step-000000004.train.0-1.tmp",
               "step-000000004.train.99999999999-1.tmp",
               "step-000000004.train" + dead + "-17.tmp.txt"};
    for (const auto* names : {&left, &others})
        for (const std::string& name : *names) write_text(run / name, "half");
    train(folder, {}, true);
    for (const std::string& name : left) CHECK_FALSE(std::filesystem::exists(run / name));
    for (const std::string& name : others) CHECK(std::filesystem::exists(run / name));
    CHECK(std::filesystem::exists(run / "step-000000009.train"));
}
