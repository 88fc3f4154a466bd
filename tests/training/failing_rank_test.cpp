// One rank that fails, of several: all end with its error, and none waits for it.
#include "hydralm/training/text_over_ranks.hpp"
#include "hydralm/training/training_run.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/runtime_blocks.hpp"
#include "support/small_model.hpp"
#include "support/temporary_directory.hpp"
#include "support/thread_ranks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = RuntimeModel<float>;

// Windows of random ids, of which one cannot be read, or has a token that no vocabulary has.
class Windows : public BatchSource {
public:
    static constexpr std::uint64_t none = ~std::uint64_t{0};

    explicit Windows(std::uint64_t unreadable = none, std::uint64_t wrong = none)
        : unreadable_(unreadable), wrong_(wrong) {}
    void next(Batch& batch) override {
        if (position_ == unreadable_) throw std::runtime_error("window without a file");
        batch.streams = 2;
        batch.length = 30;
        batch.fresh = true;
        batch.tokens = random_tokens(60, 53, position_);
        batch.labels = random_tokens(60, 53, position_ + 1000);
        if (position_ == wrong_) batch.tokens[7] = 53;
        ++position_;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    std::uint64_t unreadable_, wrong_, position_ = 0;
};

// On each of two ranks, what f(ranks, model) throws; both the same.
template <class F>
std::string said_by_both(const F& f) {
    std::array<std::string, 2> said;
    on_ranks(2, [&](Ranks& ranks) {
        Model model(small_remembering, SmallKernels{});
        initialise(model, 3, InitScheme::fan_in);
        attempt([&] { f(ranks, model); },
                [&](const Error& error) {
                    said[static_cast<std::size_t>(ranks.rank())] = error.what();
                });
    });
    CHECK(said[0] == said[1]);
    return said[0];
}

TrainerOptions options_of(bool cuts) {
    TrainerOptions options;
    options.accumulate = 4;
    options.cut_texts = cuts;
    return options;
}

std::string said_by_a_step(const TrainerOptions& options, const Windows& on_rank_0,
                           const Windows& on_rank_1) {
    std::array<bool, 2> unchanged{}, made{};
    const std::string said = said_by_both([&](Ranks& ranks, Model& model) {
        Trainer<Model> trainer(model, options, ranks);
        Windows source = ranks.rank() == 0 ? on_rank_0 : on_rank_1;
        const auto before = weights_crc(model);
        const detail::AtEnd see([&] {
            const auto me = static_cast<std::size_t>(ranks.rank());
            unchanged[me] = weights_crc(model) == before;
            made[me] = trainer.steps() == 1;
        });
        trainer.step(source);
    });
    for (std::size_t r = 0; r < 2; ++r) {
        CHECK(made[r] == said.empty());
        CHECK(unchanged[r] != made[r]);
    }
    return said;
}

// Of f(ranks, model) each allocation of rank 1 fails once, but for those that are as small as the
// counts of messages: both ranks say so.
template <class F>
void fail_each_allocation(const F& f) {
    constexpr std::size_t least = 2048;
    (void)num_threads();  // the pool of all has its memory
    long failures = 0;
    for (std::string said = "none yet"; !said.empty(); ++failures) {
        INFO("allocation " << failures);
        REQUIRE(failures < 2000);
        said = said_by_both([&](Ranks& ranks, Model& model) {
            if (ranks.rank() == 1) fail_after(failures, least);
            const detail::AtEnd enough([] { fail_never(); });
            f(ranks, model);
        });
        CHECK((said.empty() || said.starts_with("hydralm: rank 1: memory: expected as much")));
    }
    CHECK(failures > 10);
}

}  // namespace

TEST_CASE("A trainer that one rank cannot make none makes", "[failing_rank]") {
    CHECK(said_by_both([](Ranks& ranks, Model& model) {
              TrainerOptions options = options_of(false);
              if (ranks.rank() == 1) options.clip = -1.0;
              Trainer<Model>(model, options, ranks);
          }).starts_with("hydralm: rank 1: clip: expected a finite number, at least 0, found -1"));
    CHECK(said_by_both([](Ranks& ranks, Model& model) {
              Trainer<Model> trainer(model, options_of(false), ranks);
              Windows source;
              RunOptions options;
              options.keep = 1 - ranks.rank();
              TrainingRun<Model>(trainer, source, nullptr, options, "{}");
          }).starts_with("hydralm: rank 1: keep: expected at least 1, found 0"));
}

TEST_CASE("A step that one rank cannot make none makes", "[failing_rank]") {
    const Windows whole;
    for (const bool cuts : {false, true}) {
        INFO("cuts " << cuts);
        const auto options = options_of(cuts);
        CHECK(said_by_a_step(options, whole, whole).empty());
        // Rank 1 has the first two batches where they are dealt out, rank 0 the others.
        for (const std::uint64_t batch : {0U, 1U})
            CHECK(said_by_a_step(options, whole, Windows(batch)) ==
                  "hydralm: rank 1: window without a file");
        for (const std::uint64_t batch : {2U, 3U})
            CHECK(said_by_a_step(options, Windows(batch), whole) ==
                  "hydralm: window without a file");
        auto endless = options;  // of a tensor that rank 1 has
        endless.optimiser.adamw.rate = 1e308;
        endless.frozen = [](const ParameterInfo& info, std::int64_t) {
            return info.name() != "blocks.3.mlp.w_down.weight";
        };
        CHECK(said_by_a_step(endless, whole, whole)
                  .starts_with("hydralm: rank 1: step 1: expected a finite update, found NaN or "
                               "infinity in weights or moments of blocks.3.mlp.w_down.weight"));
    }
    for (const std::uint64_t batch : {0U, 1U})
        CHECK(said_by_a_step(options_of(false), whole, Windows(Windows::none, batch))
                  .starts_with("hydralm: rank 1: token 7: expected an id in [0, 53), found 53"));
}

TEST_CASE("An evaluation that one rank cannot make none makes", "[failing_rank]") {
    for (const std::uint64_t batch : {0U, 3U})  // the shape of all, and a batch of rank 1
        CHECK(said_by_both([&](Ranks& ranks, Model& model) {
                  Trainer<Model> trainer(model, options_of(false), ranks);
                  Windows source, held_out(ranks.rank() == 1 ? batch : Windows::none);
                  RunOptions options;
                  options.steps = 1;
                  options.eval_batches = 5;
                  TrainingRun<Model> run(trainer, source, &held_out, options, "{}");
                  run.run([] { return false; }, [](const StepReport&, const RunReport&) {});
              }) == "hydralm: rank 1: window without a file");
}

TEST_CASE("A checkpoint that one rank does not see none goes on from", "[failing_rank]") {
    const TemporaryDirectory files;
    const auto run = [&](Ranks& ranks, Model& model, const auto& f) {
        Trainer<Model> trainer(model, options_of(false), ranks);
        Windows source;
        RunOptions options;
        options.directory = files.path() / "run";
        options.steps = 1;
        f(options, [&] { return TrainingRun<Model>(trainer, source, nullptr, options, "{}"); });
    };
    CHECK(said_by_both([&](Ranks& ranks, Model& model) {
              run(ranks, model, [](const RunOptions&, const auto& made) {
                  made().run([] { return false; }, [](const StepReport&, const RunReport&) {});
              });
          }).empty());
    const std::string said = said_by_both([&](Ranks& ranks, Model& model) {
        run(ranks, model, [&](RunOptions& options, const auto& made) {
            if (ranks.rank() == 1) options.directory = files.path() / "elsewhere";
            made().resume([](const std::string&) {});
        });
    });
    INFO(said);
    CHECK(said.find("elsewhere: rank 1: expected a checkpoint, step-<number>.train, found none") !=
          std::string::npos);
}

TEST_CASE("Memory that one rank has not got for a step ends all", "[failing_rank]") {
    for (const bool cuts : {false, true}) {
        INFO("cuts " << cuts);
        fail_each_allocation([&](Ranks& ranks, Model& model) {
            Trainer<Model> trainer(model, options_of(cuts), ranks);
            Windows source;
            trainer.step(source);
            trainer.sections();
            std::optional<Evaluator<Model>> evaluator;
            ranks.on_all([&] { evaluator.emplace(model, 2, 30); });
            evaluator->loss(model, source, 5, ranks);
        });
    }
}

TEST_CASE("Memory that one rank has not got for its run of a text ends all", "[failing_rank]") {
    const auto text = random_tokens(103, 53, 1);
    fail_each_allocation([&](Ranks& ranks, Model& model) {
        std::optional<Model::State> state;
        ranks.on_all([&] { state.emplace(model.new_state()); });
        score_over_ranks(model, std::span<const token_id>(text), *state, ranks);
    });
}

TEST_CASE("Nobody waits for whoever fails with what a text gave", "[failing_rank]") {
    const auto text = random_tokens(103, 53, 1);
    std::array<bool, 3> failed{};
    on_ranks(3, [&](Ranks& ranks) {
        Model model(small_remembering, SmallKernels{});
        initialise(model, 3, InitScheme::fan_in);
        auto state = model.new_state();
        const auto run = [&] {
            run_over_ranks(model, std::span<const token_id>(text), state, ranks,
                           [&](MatrixView<const float>, std::size_t) {
                               if (ranks.rank() == 1) throw std::runtime_error("no more");
                           });
        };
        attempt<std::runtime_error>(run, [&](const std::runtime_error&) {
            failed[static_cast<std::size_t>(ranks.rank())] = true;
        });
    });
    CHECK(failed == std::array{false, true, false});
}
