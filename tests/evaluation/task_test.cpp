// Tasks: what a sequence must hold, that pieces are the whole, seeds, stages, scores, refusals.
#include "hydralm/evaluation.hpp"

#include <map>
#include <set>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

std::vector<token_id> tokens_of(const TaskSequence& sequence) {
    std::vector<token_id> tokens(static_cast<std::size_t>(sequence.length()), -1);
    sequence.fill(0, tokens);
    return tokens;
}

TaskSequence example(TaskKind kind, const TaskShape& shape, std::uint64_t index = 0,
                     Split split = Split::training, std::uint64_t seed = 3) {
    return {kind, shape, split, seed, index};
}

// Every fact that is stored, key to value, and at its place; every answer is a stored value.
void check_facts(TaskKind kind, const TaskShape& shape, std::uint64_t index) {
    const auto sequence = example(kind, shape, index);
    const auto tokens = tokens_of(sequence);
    const auto V = static_cast<token_id>(shape.vocab);
    const auto at = [&](Index t) { return tokens[static_cast<std::size_t>(t)]; };
    std::map<token_id, token_id> facts;
    std::map<token_id, Index> places;
    Index filler = 0;
    for (Index t = 0; t < sequence.trailer();) {
        if (at(t) < V / 2) {
            ++filler;
            ++t;
            continue;
        }
        REQUIRE(t + 3 < sequence.trailer());
        CHECK(at(t) == V - 4);
        CHECK(at(t + 2) == V - 3);
        for (const Index i : {1, 3}) CHECK((at(t + i) >= V / 2 && at(t + i) < V - 4));
        CHECK(facts.emplace(at(t + 1), at(t + 3)).second);  // keys are distinct
        places[at(t + 1)] = t;
        t += 4;
    }
    CHECK(static_cast<Index>(facts.size()) == shape.facts);
    CHECK(filler == shape.length - 4 * (shape.facts + shape.queries));
    std::set<token_id> asked;
    REQUIRE(static_cast<Index>(sequence.answers().size()) == shape.queries);
    Index t = sequence.trailer();
    for (const TaskAnswer& answer : sequence.answers()) {
        CHECK(at(t) == V - 2);
        CHECK(at(t + 2) == V - 3);
        CHECK(answer.position == t + 2);
        CHECK(asked.insert(at(t + 1)).second);
        CHECK(facts.at(at(t + 1)) == answer.value);
        CHECK(at(t + 3) == answer.value);
        CHECK(answer.depth == Approx(static_cast<double>(places.at(at(t + 1))) /
                                     static_cast<double>(sequence.trailer())));
        t += 4;
    }
    CHECK(t == shape.length);
}

void check_pairs(const TaskShape& shape, std::uint64_t index) {
    const auto sequence = example(TaskKind::mqar, shape, index);
    const auto tokens = tokens_of(sequence);
    const auto at = [&](Index t) { return tokens[static_cast<std::size_t>(t)]; };
    const auto half = static_cast<token_id>(shape.vocab / 2);
    std::map<token_id, token_id> pairs;
    for (Index i = 0; i < shape.facts; ++i) {
        CHECK((at(2 * i) < half && at(2 * i + 1) >= half && at(2 * i + 1) < 2 * half));
        CHECK(pairs.emplace(at(2 * i), at(2 * i + 1)).second);
    }
    for (Index t = 2 * shape.facts; t < sequence.trailer(); ++t)
        CHECK((at(t) < half && !pairs.contains(at(t))));
    REQUIRE(static_cast<Index>(sequence.answers().size()) == shape.queries);
    for (const TaskAnswer& answer : sequence.answers()) {
        CHECK(pairs.at(at(answer.position)) == answer.value);
        CHECK(at(answer.position + 1) == answer.value);
    }
}

std::string message_of(TaskKind kind, const TaskShape& shape) {
    try {
        example(kind, shape);
    } catch (const Error& error) {
        return error.what();
    }
    return "accepted";
}

}  // namespace

TEST_CASE("retrieval_qa and needle: facts in filler, queries about them", "[task]") {
    for (const std::uint64_t index : {0, 1, 7}) {
        check_facts(TaskKind::retrieval_qa, {96, 6, 6, 512}, index);
        check_facts(TaskKind::retrieval_qa, {2000, 32, 8, 512}, index);
        check_facts(TaskKind::retrieval_qa, {48, 6, 6, 512}, index);  // no filler at all
        check_facts(TaskKind::needle, {700, 3, 1, 64}, index);
    }
}

TEST_CASE("mqar: pairs, then queries about distinct ones", "[task]") {
    for (const std::uint64_t index : {0, 1, 7}) {
        check_pairs({32, 2, 1, 64}, index);
        check_pairs({32, 8, 8, 64}, index);
        check_pairs({256, 64, 64, 512}, index);
        check_pairs({80, 32, 5, 512}, index);
    }
}

TEST_CASE("Any piece of a sequence is that part of the whole", "[task]") {
    for (const TaskKind kind : {TaskKind::needle, TaskKind::retrieval_qa, TaskKind::mqar}) {
        const auto sequence = example(kind, {1500, 20, 8, 512}, 4);
        const auto whole = tokens_of(sequence);
        for (const Index size : {1, 3, 255, 256, 257, 1499}) {
            for (Index first = 0; first < 1500; first += size) {
                std::vector<token_id> piece(
                    static_cast<std::size_t>(std::min<Index>(size, 1500 - first)), -1);
                sequence.fill(first, piece);
                CHECK(std::equal(piece.begin(), piece.end(), whole.begin() + first));
            }
        }
    }
}

TEST_CASE("A sequence is a function of seed, split and index", "[task]") {
    const TaskShape shape{300, 8, 4, 512};
    const auto kind = TaskKind::retrieval_qa;
    const auto one = tokens_of(example(kind, shape, 5));
    CHECK(one == tokens_of(example(kind, shape, 5)));
    CHECK(one != tokens_of(example(kind, shape, 6)));
    CHECK(one != tokens_of(example(kind, shape, 5, Split::evaluation)));
    CHECK(one != tokens_of(example(kind, shape, 5, Split::training, 4)));
    CHECK(one != tokens_of(example(TaskKind::needle, shape, 5)));
    // No batch comes again, however long the training.
    TaskSource source(kind, {{shape, 2, 1}}, Split::training, 3);
    std::set<std::vector<token_id>> seen;
    Batch batch;
    for (const std::uint64_t position : {5, 6, 4096 + 5, 8192 + 5, (1 << 30) + 5}) {
        source.seek(position);
        source.next(batch);
        CHECK(seen.insert(batch.tokens).second);
    }
}

TEST_CASE("Trailers of one haystack ask about different facts", "[task]") {
    const TaskShape shape{1000, 32, 8, 512};
    std::set<token_id> keys;
    const auto whole = tokens_of(example(TaskKind::retrieval_qa, shape));
    for (Index trailer = 0; trailer < 4; ++trailer) {
        const TaskSequence sequence(TaskKind::retrieval_qa, shape, Split::training, 3, 0, trailer);
        const auto tokens = tokens_of(sequence);
        CHECK(std::equal(tokens.begin(), tokens.begin() + sequence.trailer(), whole.begin()));
        for (const TaskAnswer& answer : sequence.answers())
            CHECK(keys.insert(tokens[static_cast<std::size_t>(answer.position - 1)]).second);
    }
    CHECK(keys.size() == 32);
    CHECK_THROWS_AS(TaskSequence(TaskKind::retrieval_qa, shape, Split::training, 3, 0, 4), Error);
}

TEST_CASE("Facts lie evenly over the haystack", "[task]") {
    std::array<int, 4> quartiles{};
    for (std::uint64_t i = 0; i < 400; ++i) {
        const auto sequence = example(TaskKind::retrieval_qa, {1000, 32, 8, 512}, i);
        for (const TaskAnswer& answer : sequence.answers())
            ++quartiles[static_cast<std::size_t>(4 * answer.depth)];
    }
    for (const int count : quartiles) CHECK(std::abs(count - 800) < 100);  // 4 deviations: 98
}

TEST_CASE("A shape that is impossible is refused by its field", "[task]") {
    using K = TaskKind;
    for (const auto& [kind, shape, field] : std::vector<std::tuple<K, TaskShape, std::string>>{
             {K::retrieval_qa, {47, 6, 6, 512}, "length"},
             {K::retrieval_qa, {4000, 253, 8, 512}, "facts"},
             {K::retrieval_qa, {400, 6, 7, 512}, "queries"},
             {K::retrieval_qa, {400, 6, 6, 256}, "vocab"},
             {K::retrieval_qa, {0, 6, 6, 512}, "length"},
             {K::needle, {400, 0, 1, 512}, "facts"},
             {K::needle, {400, 1, 0, 512}, "queries"},
             {K::needle, {400, 1, 1, 63}, "vocab"},
             {K::mqar, {400, 32, 8, 64}, "length"},  // every key stored, none left for filler
             {K::mqar, {400, 33, 8, 64}, "facts"}}) {
        const auto message = message_of(kind, shape);
        INFO(message);
        CHECK(message.find("hydralm: " + field) == 0);
        CHECK(message.find("expected") != std::string::npos);
    }
}

TEST_CASE("A source follows its stages; labels are the answers", "[task]") {
    const std::vector<TaskStage> stages{{{96, 6, 6, 512}, 3, 2, true}, {{40, 2, 1, 512}, 5, 1}};
    TaskSource source(TaskKind::retrieval_qa, stages, Split::training, 9);
    CHECK(source.steps() == 3);
    Batch batch;
    std::set<std::vector<token_id>> seen;
    for (const Index length : {96, 96, 40, 40}) {
        CHECK(source.stage(source.position()).skip_deltanet == (length == 96));
        source.next(batch);
        CHECK(batch.length == length);
        CHECK(batch.fresh);
        const std::size_t answers = length == 96 ? 3 * 6 : 5 * 1;
        REQUIRE(batch.labels.size() == batch.tokens.size());
        std::size_t labelled = 0;
        for (std::size_t t = 0; t < batch.labels.size(); ++t)
            if (batch.labels[t] != kernels::ignore_index) {
                ++labelled;
                CHECK(batch.tokens[t] == 509);
                CHECK(batch.tokens[t + 1] == batch.labels[t]);
            }
        CHECK(labelled == answers);
        CHECK(seen.insert(batch.tokens).second);
    }
    source.seek(1);
    source.next(batch);
    CHECK_FALSE(seen.insert(batch.tokens).second);

    TaskSource twice(TaskKind::retrieval_qa, stages, Split::training, 9, 2);  // batches a step
    for (const Index length : {96, 96, 96, 96, 40, 40, 40}) {
        twice.next(batch);
        CHECK(batch.length == length);
    }
    CHECK_THROWS_AS(TaskSource(TaskKind::retrieval_qa, stages, Split::training, 9, 0), Error);
}

TEST_CASE("Stages from a file, and what is refused", "[task]") {
    const TemporaryDirectory directory;
    const auto path = directory.path() / "stages.json";
    const auto read = [&](const std::string& text) {
        write_text(path, text);
        return read_stages(path, TaskKind::retrieval_qa, 512);
    };
    const auto stages = read(
        R"([{"length": 96, "facts": 6, "queries": 5, "batch": 48, "steps": 250,
             "skip_deltanet": true}, {"length": 48, "facts": 6, "queries": 6, "batch": 1,
             "steps": 1}])");
    REQUIRE(stages.size() == 2);
    CHECK(stages[0].shape.queries == 5);
    CHECK(stages[0].batch == 48);
    CHECK(stages[0].skip_deltanet);
    CHECK_FALSE(stages[1].skip_deltanet);
    const std::string good = R"("length": 96, "facts": 6, "queries": 5, "batch": 2, "steps": 3)";
    for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{
             {"", "content"},
             {"[", "JSON"},
             {"{}", "a list of stages"},
             {"[]", "a list of stages"},
             {"[3]", "stage 0: expected an object"},
             {"[{" + good + "}, {\"length\": 96}]", "stage 1: facts"},
             {"[{" + good + ", \"more\": 1}]", "stage 0: more"},
             {"[{" + good + ", \"skip_deltanet\": 1}]", "stage 0: skip_deltanet"},
             {R"([{"length": 0, "facts": 6, "queries": 5, "batch": 2, "steps": 3}])",
              "stage 0: length"},
             {R"([{"length": 30, "facts": 6, "queries": 5, "batch": 2, "steps": 3}])",
              "stage 0: length"}}) {
        try {
            read(text);
            FAIL("accepted " << text);
        } catch (const Error& error) {
            INFO(error.what());
            CHECK(std::string(error.what()).find("stages.json") != std::string::npos);
            CHECK(std::string(error.what()).find(part) != std::string::npos);
        }
    }
}

TEST_CASE("A score counts the answers a model gives right", "[task]") {
    // One hidden direction per token: a model whose head always says the same.
    constexpr HydraConfig config{.vocab_size = 512,
                                 .d_model = 8,
                                 .n_layers = 1,
                                 .n_heads = 2,
                                 .head_dim = 4,
                                 .tie_embeddings = false};
    using Model = HydraLM<config>;
    const TaskShape shape{6000, 32, 8, 512};
    const auto kind = TaskKind::retrieval_qa;
    std::int64_t expected = 0;
    const token_id favourite =
        TaskSequence(kind, shape, Split::evaluation, 2, 0).answers()[3].value;
    std::array<std::int64_t, 4> quartiles{};
    for (std::uint64_t i = 0; i < 3; ++i) {
        const TaskSequence sequence(kind, shape, Split::evaluation, 2, i);
        for (const TaskAnswer& answer : sequence.answers()) {
            expected += answer.value == favourite;
            ++quartiles[static_cast<std::size_t>(4 * answer.depth)];
        }
    }
    Model model;
    model.set_parameters([&](const ParameterInfo& info, std::span<float> values) {
        std::ranges::fill(values, 0.0F);
        if (info.name() == "embed.weight" || info.name() == "norm_f.weight")
            std::ranges::fill(values, 1.0F);
        if (info.name() == "lm_head.weight") values[static_cast<std::size_t>(favourite) * 8] = 1.0F;
    });
    auto impossible = shape;
    impossible.length = -1;
    CHECK_THROWS_AS(score_task(model, kind, impossible, 1, 2), Error);
    const auto score = score_task(model, kind, shape, 3, 2);
    CHECK(score.answers == 24);
    CHECK(score.right == expected);
    CHECK(score.right >= 1);
    CHECK(score.answers_by_quartile == quartiles);
    CHECK(score.accuracy() == Approx(static_cast<double>(expected) / 24.0));
    // Trailers fork from one reading: the first is the sequence itself.
    const auto forked = score_task(model, kind, shape, 3, 2, 4);
    CHECK(forked.answers == 96);
    CHECK(forked.right >= score.right);
}
