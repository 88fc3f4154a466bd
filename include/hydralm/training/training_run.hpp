// TrainingRun: training to the end, with evaluation, a log, and checkpoints that survive anything.
//
// The directory holds step-<number>.train, the last few (each written whole or not at all, checked
// by its CRC), and best.safetensors, the weights of the lowest validation loss. A run that was
// killed and resumed gives bit for bit what it would have given, on any number of ranks. Rank 0
// writes; all read.
#pragma once

#include <signal.h>  // kill

#include <charconv>
#include <chrono>
#include <fstream>
#include <limits>

#include "hydralm/io/crc32.hpp"
#include "hydralm/training/run_log.hpp"
#include "hydralm/training/same_ranks.hpp"
#include "hydralm/training/trainer.hpp"
#include "hydralm/training/weights_crc.hpp"

namespace HYDRALM_NAMESPACE {

struct RunOptions {
    std::int64_t steps = 1000;
    std::int64_t eval_every = 0;      // steps between evaluations; 0: at the end only
    std::int64_t eval_batches = 8;    // batches of one evaluation
    std::int64_t save_every = 0;      // steps between checkpoints; 0: at the end only
    int keep = 3;                     // checkpoints kept
    std::filesystem::path directory;  // of the checkpoints; empty: none are written
    std::filesystem::path log{};      // JSON lines; empty: none
    // Writes the model of the lowest validation loss as that file; empty: save.
    std::function<void(const std::filesystem::path&)> save_best{};
};

struct RunReport {
    std::int64_t steps = 0;
    std::int64_t tokens = 0;
    double seconds = 0.0;                                               // of this call
    double communication_seconds = 0.0;                                 // of these, with ranks
    double train_loss = 0.0;                                            // of the last step
    double validation_loss = std::numeric_limits<double>::quiet_NaN();  // of the last evaluation
    double best_validation_loss = std::numeric_limits<double>::infinity();
    std::int64_t tokens_here = 0;  // of this call
    bool interrupted = false;
};

// Trainer, sources and the description must be those of the run that wrote the checkpoints;
// description: a JSON object of what else the numbers depend on (data, seed, shape of a batch).
template <class Model>
class TrainingRun {
public:
    // validation: may be null. Throws Error when fewer than one checkpoint is to be kept, for a
    // published model whose best weights are not saved by options.save_best, and when
    // ranks differ: in the program, its compiler and instruction set, in what the numbers depend
    // on, or in the weights they begin with. All ranks call every function of it together, and what
    // one of them throws all do, but for what run is given to call.
    TrainingRun(Trainer<Model>& trainer, BatchSource& source, BatchSource* validation,
                RunOptions options, const std::string& description)
        : trainer_(trainer),
          source_(source),
          validation_(validation),
          options_(std::move(options)) {
        trainer.ranks().on_all([&] {
            fingerprint_ = fingerprint(description);
            if (options_.keep < 1)
                raise({.field = "keep",
                       .expected = "at least 1",
                       .found = std::to_string(options_.keep),
                       .fix = "keep one checkpoint"});
            if (validation_ && !options_.directory.empty() && !options_.save_best)
                static_cast<void>(detail::model_metadata(trainer.model()));  // whether save can
        });
        expect_same_ranks();
    }

    // Continues from the newest checkpoint of the directory that can be read; unreadable ones are
    // passed over, and said to `warn` (a text). Throws Error when there is none, or when the newest
    // readable one belongs to another run (naming what differs).
    template <class Warn>
    void resume(const Warn& warn) {
        trainer_.ranks().on_all([&] { restore_newest(warn); });
        expect_same_ranks();
        trainer_.ranks().on_first([&] { cut_log(); });
        owns_directory_ = true;
    }

    // Trains to options.steps. stop() is asked after every step: true, on any rank, saves and ends
    // early. progress(const StepReport&, const RunReport&) is told of every step, after its
    // evaluation, on every rank.
    // Creates the directory, and removes from it what killed saves left. Throws Error, before the
    // first step, when it or the log cannot be written, and when the directory holds checkpoints
    // that this run did not resume: its own would mix with them. Throws Error, after saving where
    // there is room, when the log takes no more lines: those before are all there.
    template <class Stop, class Progress>
    RunReport run(const Stop& stop, const Progress& progress) {
        Ranks& ranks = trainer_.ranks();
        std::optional<RunLog> log;  // of rank 0
        ranks.on_first([&] {
            make_directory();
            expect_own_directory();
            remove_killed_saves();
            if (!options_.log.empty()) log.emplace(options_.log);
        });
        const auto begin = std::chrono::steady_clock::now();
        const std::int64_t tokens_before = trainer_.tokens();
        const double communicated_before = ranks.traffic().seconds;
        std::int64_t saved = -1;
        report_.seconds = 0.0;
        report_.communication_seconds = 0.0;
        report_.tokens_here = 0;
        report_.interrupted = false;
        while (trainer_.steps() < options_.steps && !report_.interrupted) {
            const StepReport step = trainer_.step(source_);
            report_.train_loss = step.loss;
            report_.interrupted = ranks.any(stop()) && step.step < options_.steps;
            if (validation_ && due(step.step, options_.eval_every)) evaluate();
            report_.steps = trainer_.steps();
            report_.tokens = trainer_.tokens();
            report_.tokens_here = report_.tokens - tokens_before;
            report_.seconds =
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
            report_.communication_seconds = ranks.traffic().seconds - communicated_before;
            if (!options_.log.empty())
                attempt([&] { ranks.on_first([&] { log->append(log_line(step)); }); },
                        [&](const Error& full) { save_and_raise(full); });
            progress(step, static_cast<const RunReport&>(report_));
            if (due(step.step, options_.save_every) || report_.interrupted) {
                save();
                saved = step.step;
            }
        }
        report_.steps = trainer_.steps();
        report_.tokens = trainer_.tokens();
        if (saved != report_.steps && report_.tokens_here > 0) save();
        return report_;
    }

    // Writes a checkpoint of this moment, and removes those beyond options.keep; those of later
    // steps, which resume passed over, stay and do not count. Throws Error as AtomicFile does, the
    // checkpoints before stay, and as run does for a directory of another run.
    void save() {
        if (options_.directory.empty()) return;
        const auto sections = trainer_.sections();
        trainer_.ranks().on_first([&] { write(sections); });
    }

private:
    using Files = std::map<std::int64_t, std::filesystem::path>;

    void write(std::vector<StateSection> sections) {
        expect_own_directory();
        const std::uint64_t position = source_.position();
        const std::array losses{report_.train_loss, report_.validation_loss,
                                report_.best_validation_loss};
        sections.push_back(state_section("source", std::span<const std::uint64_t>(&position, 1)));
        sections.push_back(state_section("losses", std::span<const double>(losses)));
        save_state(file_of(trainer_.steps()), fingerprint_, sections);
        auto files = checkpoints();
        files.erase(files.upper_bound(trainer_.steps()), files.end());
        std::error_code ignored;
        while (static_cast<int>(files.size()) > options_.keep) {
            std::filesystem::remove(files.begin()->second, ignored);
            files.erase(files.begin());
        }
    }

    bool due(std::int64_t step, std::int64_t every) const noexcept {
        return step == options_.steps || (every > 0 && step % every == 0);
    }

    void make_directory() const {
        if (options_.directory.empty()) return;
        std::error_code failure, unknown;
        std::filesystem::create_directories(options_.directory, failure);
        if (!std::filesystem::is_directory(options_.directory, unknown))
            raise({.file = options_.directory.string(),
                   .expected = "a directory for checkpoints",
                   .found = failure ? failure.message() : "something else",
                   .fix = "choose a directory you may write"});
    }

    void expect_own_directory() {
        if (!owns_directory_ && !options_.directory.empty() && !checkpoints().empty())
            raise({.file = options_.directory.string(),
                   .expected = "no checkpoints of another run",
                   .found = checkpoints().rbegin()->second.filename().string(),
                   .fix = "resume that run, remove the directory, or choose another"});
        owns_directory_ = true;  // what lies there from now on is this run's
    }

    // The log takes no more lines: the run can go on from here, if the disk takes a checkpoint.
    [[noreturn]] void save_and_raise(const Error& full) {
        attempt([&] { save(); },
                [&](const Error& failure) {
                    ErrorDetail both = full.detail();
                    both.found += ", nor was a checkpoint saved: " + failure.detail().found;
                    raise(std::move(both));
                });
        raise(full);
    }

    void expect_same_ranks() {
        if (trainer_.ranks().count() == 1) return;
        detail::expect_same(trainer_.ranks(), [&] {
            auto facts = detail::program_facts();
            facts.update(parse_json(fingerprint_, "fingerprint", ""));
            facts["steps made"] = trainer_.steps();
            facts["weights, CRC-32"] = weights_crc(trainer_.model());
            return facts;
        });
    }

    void evaluate() {
        trainer_.ranks().on_all([&] {
            if (evaluator_) return;
            Batch shape;
            validation_->seek(0);
            validation_->next(shape);
            evaluator_.emplace(trainer_.model(), shape.streams, shape.length);
        });
        report_.validation_loss = evaluator_->loss(trainer_.model(), *validation_,
                                                   options_.eval_batches, trainer_.ranks());
        if (report_.validation_loss < report_.best_validation_loss) {
            report_.best_validation_loss = report_.validation_loss;
            if (!options_.directory.empty())
                trainer_.ranks().on_first([&] {
                    const auto best = options_.directory / "best.safetensors";
                    if (options_.save_best) options_.save_best(best);
                    else hydralm::save(trainer_.model(), best);
                });
        }
    }

    template <class Warn>
    void restore_newest(const Warn& warn) {
        const auto files = checkpoints();
        if (files.empty())
            raise({.file = options_.directory.string(),
                   .expected = "a checkpoint, step-<number>.train",
                   .found = "none",
                   .fix = "give the directory a training run wrote"});
        for (auto file = files.rbegin(); file != files.rend(); ++file) {
            const auto restored = [&] { return restore(file->second), true; };
            const auto pass_over = [&](const Error& error) {
                const bool other_run = error.detail().field.starts_with("config: ");
                if (other_run || std::next(file) == files.rend()) raise(error);
                warn(std::string(error.what()) + "; trying the checkpoint before it");
                return false;
            };
            if (attempt(restored, pass_over)) break;
        }
    }
    void restore(const std::filesystem::path& path) {
        const StateFile file(path, fingerprint_);
        file.expect_only({"progress", "parameters", "first_moment", "second_moment", "states",
                          "banks", "source", "losses"});
        std::uint64_t position = 0;
        std::array<double, 3> losses{};
        file.read("source", std::span(&position, 1));
        file.read("losses", std::span<double>(losses));
        trainer_.restore(file, options_.steps);
        source_.seek(position);
        report_.train_loss = losses[0];
        report_.validation_loss = losses[1];
        report_.best_validation_loss = losses[2];
    }

    std::filesystem::path file_of(std::int64_t step) const {
        const std::string number = std::to_string(step);
        return options_.directory /
               ("step-" + std::string(number.size() < 9 ? 9 - number.size() : 0, '0') + number +
                ".train");
    }

    Files checkpoints() const {
        Files files;
        std::error_code failure;
        for (const auto& entry : std::filesystem::directory_iterator(options_.directory, failure)) {
            const std::string name = entry.path().filename().string();
            if (!name.starts_with("step-") || !name.ends_with(".train")) continue;
            const std::string number = name.substr(5, name.size() - 11);
            if (number.empty() || number.size() > 18 ||
                number.find_first_not_of("0123456789") != std::string::npos)
                continue;
            files.emplace(std::stoll(number), entry.path());
        }
        return files;
    }

    // Removes what AtomicFile left under temporary names, <target>.<process>-<number>.tmp, in
    // processes that are gone, or had the number of this one, which is saving nothing now. Numbers
    // are those that this process sees: a directory is for one run at a time.
    void remove_killed_saves() const {
        std::error_code failure;
        for (const auto& entry : std::filesystem::directory_iterator(options_.directory, failure)) {
            const std::string name = entry.path().filename().string();
            const bool target = name.starts_with("best.safetensors.") ||
                                (name.starts_with("step-") && name.find(".train.") != name.npos);
            if (!target || !name.ends_with(".tmp")) continue;
            const char* const number = name.data() + name.rfind('.', name.size() - 5) + 1;
            int process = 0;
            const auto parsed = std::from_chars(number, name.data() + name.size(), process);
            if (*parsed.ptr != '-' || process <= 0) continue;
            if (process == ::getpid() || (::kill(process, 0) != 0 && errno == ESRCH))
                std::filesystem::remove(entry.path(), failure);
        }
    }

    static std::string json_number(double x) {
        if (!std::isfinite(x)) return "null";
        return detail::Json(x).dump();
    }

    std::string log_line(const StepReport& step) const {
        std::string line = "{\"step\":" + std::to_string(step.step) +
                           ",\"tokens\":" + std::to_string(report_.tokens) +
                           ",\"loss\":" + json_number(step.loss) +
                           ",\"rate\":" + json_number(step.rate) +
                           ",\"gradient_norm\":" + json_number(step.gradient_norm) +
                           ",\"skipped\":" + (step.skipped ? "true" : "false");
        if (validation_ && due(step.step, options_.eval_every))
            line += ",\"validation_loss\":" + json_number(report_.validation_loss);
        return line + ",\"seconds\":" + json_number(report_.seconds) + "}\n";
    }

    // Leaves out the lines of steps that will be made again, and a line cut off by the kill; lines
    // that are no step's stay.
    void cut_log() const {
        std::error_code unknown;
        if (!std::filesystem::is_regular_file(options_.log, unknown)) return;
        std::ifstream log(options_.log);
        if (!log) return;
        std::string kept;
        for (std::string line; std::getline(log, line) && !log.eof();) {
            const auto value = detail::Json::parse(line, nullptr, false);
            const bool again = value.is_object() && value.contains("step") &&
                               value["step"].is_number_integer() &&
                               value["step"].get<std::int64_t>() > trainer_.steps();
            if (!again) kept += line + '\n';
        }
        write_file(options_.log, kept);
    }

    // Config, scalar, description and everything of the trainer that the numbers depend on.
    std::string fingerprint(const std::string& description) const {
        auto all = detail::Json::parse(detail::fingerprint(trainer_.model()));
        const TrainerOptions& o = trainer_.options();
        const bool muon = o.optimiser.kind == OptimiserKind::muon;
        const detail::Json training{
            {"optimizer", muon ? "muon" : "adamw"},
            {"adamw",
             {o.optimiser.adamw.rate, o.optimiser.adamw.beta1, o.optimiser.adamw.beta2,
              o.optimiser.adamw.epsilon, o.optimiser.adamw.decay}},
            {"muon", {o.optimiser.muon.rate, o.optimiser.muon.momentum}},
            {"rate", {o.rate.peak, o.rate.least, o.rate.warmup, o.rate.total, o.rate.hold}},
            {"accumulate", o.accumulate},
            {"clip", o.clip},
            {"non_finite", o.non_finite == NonFinite::stop ? "stop" : "skip"},
            {"steps", options_.steps}};
        for (const auto& [key, value] : training.items()) all["training." + key] = value;
        const auto extra = parse_json(description, "description", "");
        if (!extra.is_object())
            raise({.field = "description",
                   .expected = "a JSON object",
                   .found = detail::shown(extra),
                   .fix = "give {} where there is nothing to add"});
        for (const auto& [key, value] : extra.items()) all["training." + key] = value;
        return all.dump();
    }

    Trainer<Model>& trainer_;
    BatchSource& source_;
    BatchSource* validation_;
    RunOptions options_;
    std::string fingerprint_;
    std::optional<Evaluator<Model>> evaluator_;
    RunReport report_;
    bool owns_directory_ = false;
};

}  // namespace HYDRALM_NAMESPACE
