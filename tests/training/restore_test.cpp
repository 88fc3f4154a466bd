// Numbers that training does not come to: in a checkpoint with a right checksum, and after an
// update.
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
