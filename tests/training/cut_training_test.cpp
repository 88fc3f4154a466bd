// Training with texts that are cut over ranks is that of one process, to rounding; its checkpoints
// go on with any number of ranks; what is refused.
#include "hydralm/training/training_run.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/runtime_blocks.hpp"
#include "support/shared_gradients.hpp"
#include "support/small_model.hpp"
#include "support/temporary_directory.hpp"
#include "support/thread_ranks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Texts of so many random ids, of which some are not predicted.
class Texts : public BatchSource {
public:
    explicit Texts(Index length, bool fresh = true, bool alternates = true, Index texts = 2,
                   std::uint64_t seed = 0)
        : length_(length), texts_(texts), fresh_(fresh), alternates_(alternates), seed_(seed) {}
    void next(Batch& batch) override {
        batch.streams = texts_;
        batch.length = length_;
        if (alternates_) batch.length -= static_cast<Index>(position_ % 2);  // two shapes, in turn
        batch.fresh = fresh_ || position_ == 0;
        batch.tokens = random_tokens(texts_ * batch.length, 53, seed_ + position_);
        batch.labels = random_tokens(texts_ * batch.length, 53, position_ + 1000);
        for (std::size_t i = 0; i < batch.labels.size(); i += 7 + position_)
            batch.labels[i] = kernels::ignore_index;
        ++position_;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    Index length_, texts_;
    bool fresh_, alternates_;
    std::uint64_t seed_, position_ = 0;
};

TrainerOptions cut_options(OptimiserKind kind, Keep keep = Keep::everything) {
    TrainerOptions options;
    options.keep = keep;
    options.optimiser.kind = kind;
    options.accumulate = 3;  // batches that could not be dealt out to 2 ranks
    options.clip = 0.5;
    options.cut_texts = true;
    return options;
}

template <class T>
struct Trace {
    std::vector<double> losses, norms, held_out;
    std::vector<T> weights;
    std::uint64_t position = 0;  // of the source
    std::int64_t tokens = 0;
};

// A run, gone on with from the directory where it has checkpoints.
template <class T>
Trace<T> trained(const std::filesystem::path& directory, std::int64_t steps, OptimiserKind kind,
                 Ranks& ranks, Keep keep = Keep::everything) {
    using Model = RuntimeModel<T>;
    Model model(small_remembering, SmallKernels{});
    initialise(model, 3, InitScheme::fan_in);
    const bool resumes = std::filesystem::exists(directory);
    static_cast<void>(ranks.any(false));  // all have looked
    Trainer<Model> trainer(model, cut_options(kind, keep), ranks);
    Texts source(45), held_out(29, true, false);
    RunOptions options;
    options.steps = 4;
    options.eval_every = 2;
    options.eval_batches = 5;  // whole texts, a number that no number of ranks divides
    options.directory = directory;
    TrainingRun<Model> run(trainer, source, &held_out, options, "{}");
    if (resumes) run.resume([](const std::string&) {});
    Trace<T> trace;
    run.run([&] { return trainer.steps() == steps; },
            [&](const StepReport& step, const RunReport& report) {
                trace.losses.push_back(step.loss);
                trace.norms.push_back(step.gradient_norm);
                trace.held_out.push_back(report.validation_loss);
            });
    model.get_parameters([&](const ParameterInfo&, std::span<const T> values) {
        trace.weights.insert(trace.weights.end(), values.begin(), values.end());
    });
    trace.position = source.position();
    trace.tokens = trainer.tokens();
    return trace;
}

// Of ranks, all of which must have the same bits.
template <class T>
Trace<T> trained_on(int count, const std::filesystem::path& directory, std::int64_t steps,
                    OptimiserKind kind, Keep keep = Keep::everything) {
    std::vector<Trace<T>> traces(static_cast<std::size_t>(count));
    on_ranks(count, [&](Ranks& ranks) {
        traces[static_cast<std::size_t>(ranks.rank())] =
            trained<T>(directory, steps, kind, ranks, keep);
    });
    for (const auto& trace : traces) {
        CHECK(same_bits(trace.weights, traces.front().weights));
        CHECK(trace.losses == traces.front().losses);
        CHECK(trace.norms == traces.front().norms);
        CHECK(same_bits(trace.held_out, traces.front().held_out));
        CHECK(trace.position == traces.front().position);
        CHECK(trace.tokens == traces.front().tokens);
    }
    return traces.front();
}

template <class T>
void check_cut(OptimiserKind kind, std::initializer_list<int> counts, double bound) {
    const TemporaryDirectory files;
    const auto expected = trained<T>(files.path() / "alone", 4, kind, one_rank());
    const auto check = [&](const Trace<T>& found, const std::string& where, std::size_t first) {
        REQUIRE(found.losses.size() == expected.losses.size() - first);
        for (std::size_t i = 0; i < found.losses.size(); ++i) {
            INFO(where << ", step " << first + i + 1);
            CHECK(found.losses[i] == Approx(expected.losses[first + i]).epsilon(bound));
            CHECK(found.norms[i] == Approx(expected.norms[first + i]).epsilon(bound));
            if (first + i == 0) {  // the first evaluation is behind the second step
                CHECK(std::isnan(found.held_out[i]));
                CHECK(std::isnan(expected.held_out[i]));
            } else {
                CHECK(found.held_out[i] == Approx(expected.held_out[first + i]).epsilon(bound));
            }
        }
        check_close(std::span(found.weights), std::span(expected.weights), bound, where);
        CHECK(found.position == expected.position);
        CHECK(found.tokens == expected.tokens);
    };
    for (const int count : counts) {
        const std::string where = std::to_string(count) + " ranks";
        check(trained_on<T>(count, files.path() / where, 4, kind), where, 0);
    }
    check(trained_on<T>(2, files.path() / "small", 4, kind, Keep::block_inputs), "small tapes", 0);
    // A run goes on with more ranks, and with one.
    const auto moved = files.path() / "moved";
    trained_on<T>(2, moved, 1, kind);
    trained_on<T>(3, moved, 2, kind);
    check(trained_on<T>(1, moved, 4, kind), "2, 3 and 1 ranks", 2);
}

}  // namespace

TEST_CASE("Training with texts cut over ranks is that of one", "[ranks]") {
    check_cut<double>(OptimiserKind::adamw, {2, 3}, 1e-10);
    check_cut<double>(OptimiserKind::muon, {3}, 1e-10);
    check_cut<float>(OptimiserKind::muon, {2}, 1e-3);
}

TEST_CASE("Training that cannot cut its texts is refused on every rank", "[ranks]") {
    using Model = RuntimeModel<double>;
    const auto refused = [](const HydraConfig& config, Texts source, const std::string& part) {
        std::array<std::string, 3> said;
        std::array<bool, 3> unchanged{};
        on_ranks(3, [&](Ranks& ranks) {
            Model model(config, SmallKernels{});
            initialise(model, 3, InitScheme::fan_in);
            const auto before = weights_crc(model);
            Trainer<Model> trainer(model, cut_options(OptimiserKind::adamw), ranks);
            Texts own = source;
            const auto me = static_cast<std::size_t>(ranks.rank());
            attempt([&] { trainer.step(own); },
                    [&](const Error& error) { said[me] = error.what(); });
            unchanged[me] = weights_crc(model) == before && trainer.steps() == 0;
        });
        for (std::size_t r = 0; r < said.size(); ++r) {
            INFO(said[r]);
            CHECK(said[r].find(part) != std::string::npos);
            CHECK(unchanged[r]);
        }
    };
    refused(small_remembering, Texts(3),
            "text: expected at least a token for each of 3 ranks, found 2");
    refused(small_remembering, Texts(31, false), "batch: expected streams that begin in it");
    HydraConfig drafting = small_remembering;
    drafting.mtp_depth = 1;
    refused(drafting, Texts(31),
            "mtp_depth: expected 0, for texts that are cut over ranks, found 1");
}

TEST_CASE("Ranks that would wait for each other are refused by what differs", "[ranks]") {
    using Model = RuntimeModel<double>;
    const auto refused = [](const auto& options_of, const auto& source_of,
                            const std::string& part) {
        std::array<std::string, 2> said;
        on_ranks(2, [&](Ranks& ranks) {
            Model model(small_remembering, SmallKernels{});
            initialise(model, 3, InitScheme::fan_in);
            attempt(
                [&] {
                    Trainer<Model> trainer(model, options_of(ranks.rank()), ranks);
                    Texts source = source_of(ranks.rank());
                    trainer.step(source);
                },
                [&](const Error& error) {
                    said[static_cast<std::size_t>(ranks.rank())] = error.what();
                });
        });
        for (const std::string& one : said) {
            INFO(one);
            CHECK(one.find(part) != std::string::npos);
        }
    };
    const auto cut = [](int) { return cut_options(OptimiserKind::adamw); };
    const auto same = [](int) { return Texts(31); };
    const auto one_deals_out = [&](int rank) {
        auto options = cut(rank);
        options.cut_texts = rank == 0;
        return options;
    };
    refused(one_deals_out, same, "rank 1: cut texts: expected true, found false");
    const auto one_has_more = [&](int rank) {
        auto options = cut(rank);
        options.accumulate = 1 + rank;
        return options;
    };
    refused(one_has_more, same, "rank 1: accumulate: expected 1, found 2");
    const auto shorter = [](int rank) { return Texts(45 - rank); };
    refused(cut, shorter, "rank 1: batch, tokens of a text: expected 45, found 44");
    const auto fewer = [](int rank) { return Texts(45, true, true, 2 - rank); };
    refused(cut, fewer, "rank 1: batch, texts: expected 2, found 1");
    const auto other = [](int rank) {
        return Texts(45, true, true, 2, static_cast<std::uint64_t>(rank));
    };
    refused(cut, other, "rank 1: tokens, CRC-32: expected");
}

TEST_CASE("Numbers that are not finite stop every rank or are skipped by all", "[ranks]") {
    using Model = RuntimeModel<double>;
    for (const NonFinite choice : {NonFinite::stop, NonFinite::skip}) {
        std::array<std::string, 2> said;
        std::array<StepReport, 2> reports;
        std::array<bool, 2> unchanged{};
        on_ranks(2, [&](Ranks& ranks) {
            Model model(small_remembering, SmallKernels{});
            initialise(model, 3, InitScheme::fan_in);
            model.set_parameters([](const ParameterInfo& info, std::span<double> values) {
                if (info.name() == "blocks.1.mlp.w_down.weight")
                    values[3] = std::numeric_limits<double>::infinity();
            });
            const auto before = weights_crc(model);
            auto options = cut_options(OptimiserKind::adamw);
            options.non_finite = choice;
            Trainer<Model> trainer(model, options, ranks);
            Texts source(31);
            const auto me = static_cast<std::size_t>(ranks.rank());
            attempt([&] { reports[me] = trainer.step(source); },
                    [&](const Error& error) { said[me] = error.what(); });
            unchanged[me] = weights_crc(model) == before;
        });
        for (std::size_t r = 0; r < said.size(); ++r) {
            INFO(said[r]);
            CHECK(unchanged[r]);
            CHECK(reports[r].skipped == (choice == NonFinite::skip));
            CHECK(said[r] == said[0]);
            CHECK(said[r].empty() == (choice == NonFinite::skip));
        }
        if (choice == NonFinite::stop)
            CHECK(said[0].find("weight blocks.1.mlp.w_down.weight") != std::string::npos);
    }
}
