// What a run writes beside its checkpoints: a log that is no file, a log that is full; and what
// killed runs left.
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "hydralm/training.hpp"
#include "support/files.hpp"
#include "support/shared_gradients.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_trained>;

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
