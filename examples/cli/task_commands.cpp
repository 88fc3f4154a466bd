// task: the synthetic tasks, as JSON lines or as a model's accuracy; ask: questions about facts in
// a text of the user's own.
#include <hydralm/evaluation.hpp>
#include <hydralm/inference/streaming.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "bank_policy.hpp"
#include "options.hpp"
#include "planted_text.hpp"
#include "program_model.hpp"
#include "ranks.hpp"
#include "standard_streams.hpp"
#include "task_model.hpp"

namespace {

using hydralm::Index;
using Json = nlohmann::ordered_json;

// Facts that are not given: 32, one needle, as many pairs as fit, 8 chains or keys of several
// values; queries: 8, of all pairs.
hydralm::TaskShape task_shape(const TaskOptions& t, hydralm::TaskKind kind, Index length,
                              Index vocab) {
    using enum hydralm::TaskKind;
    hydralm::TaskShape shape{.length = length,
                             .facts = t.facts,
                             .queries = t.queries,
                             .vocab = vocab,
                             .key_tokens = t.key_tokens,
                             .hops = t.hops,
                             .values = t.values};
    if (shape.facts == 0) {
        if (kind == needle) shape.facts = 1;
        else if (kind == mqar) shape.facts = std::max<Index>(1, std::min(length / 4, vocab / 4));
        else shape.facts = kind == tracking || kind == multivalue ? 8 : 32;
    }
    if (shape.queries == 0)
        shape.queries = kind == mqar       ? shape.facts
                        : kind == multikey ? 8
                                           : std::min<Index>(8, shape.facts);
    hydralm::check_task_shape(kind, shape);
    return shape;
}

void print_sequences(const Options& o, hydralm::TaskKind kind, Index vocab) {
    for (const Index length : o.task.lengths) {
        const auto shape = task_shape(o.task, kind, length, vocab);
        for (std::int64_t i = 0; i < o.task.count; ++i) {
            const hydralm::TaskSequence sequence(kind, shape, hydralm::Split::evaluation, o.seed,
                                                 static_cast<std::uint64_t>(i));
            std::vector<hydralm::token_id> ids(static_cast<std::size_t>(length)),
                labels(ids.size(), hydralm::kernels::ignore_index);
            sequence.fill(0, ids);
            Json line{{"ids", ids}, {"labels", labels}, {"depth", Json::array()}};
            sequence.for_each_label([&](Index position, hydralm::token_id label) {
                line["labels"][static_cast<std::size_t>(position)] = label;
            });
            for (const auto& answer : sequence.answers()) line["depth"].push_back(answer.depth);
            std::printf("%s\n", line.dump().c_str());
            flush_output();
        }
    }
}

template <class Model>
void evaluate(const Options& o, hydralm::TaskKind kind) {
    Model model = load_program_model<Model>(o.model, o.weights);
    const Index vocab = task_vocab(model.vocab_size(), kind);
    for (const Index length : o.task.lengths) task_shape(o.task, kind, length, vocab);
    if (o.task.zero_retrieval)
        change_parameters(model, [&](const hydralm::ParameterInfo& info, auto values) {
            if (in_mixer(model, info, hydralm::LayerType::retrieval) &&
                info.law.role == hydralm::ParameterRole::residual_projection)
                std::ranges::fill(values, 0);
        });
    const auto policy = bank_policy(model, o.bank);
    Json result{{"task", o.task.name}, {"zero_retrieval", o.task.zero_retrieval}};
    add_sparse_reading(result, model.new_memory(policy));
    for (const Index length : o.task.lengths) {
        const auto begin = std::chrono::steady_clock::now();
        const auto score =
            hydralm::score_task(model, kind, task_shape(o.task, kind, length, vocab), o.task.count,
                                o.seed, o.task.trailers, policy, program_ranks());
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (!speaks()) continue;
        std::fprintf(stderr, "length %lld: %.4f of %lld answers, %.0f tokens/s\n",
                     static_cast<long long>(length), score.accuracy(),
                     static_cast<long long>(score.answers),
                     static_cast<double>(length * o.task.count) / seconds);
        Json quartiles = Json::array();
        for (std::size_t i = 0; i < 4; ++i)
            quartiles.push_back(score.answers_by_quartile[i] == 0 ? Json()
                                                                  : Json(score.quartile(i)));
        result["lengths"].push_back({{"length", length},
                                     {"accuracy", score.accuracy()},
                                     {"by_quartile", quartiles},
                                     {"answers", score.answers},
                                     {"seconds", seconds},
                                     {"resident_bytes_peak", hydralm::peak_resident_bytes()}});
    }
    if (speaks()) std::printf("%s\n", result.dump().c_str());
}

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// What one token reads: of each chunk the most that any head of any layer gave it.
class ReadsOfAToken : public hydralm::ReadObserver {
public:
    using Read = std::pair<Index, double>;  // chunk, weight

    void watch(std::int64_t position) {
        position_ = position;
        reads_.clear();
        reads_.reserve(4096);
    }
    void read(std::int64_t position, Index, Index chunk, double weight) noexcept override {
        if (position == position_ && reads_.size() < reads_.capacity())
            reads_.emplace_back(chunk, weight);
    }
    // The heaviest first.
    std::vector<Read> best() const {
        std::map<Index, double> most;
        for (const auto& [chunk, weight] : reads_) most[chunk] = std::max(most[chunk], weight);
        std::vector<Read> sorted(most.begin(), most.end());
        std::ranges::stable_sort(sorted, std::greater(), &Read::second);
        return sorted;
    }

private:
    std::int64_t position_ = -1;
    std::vector<Read> reads_;
};

// Feeds all of it, with a line on standard error each second.
template <class Model>
Json read_planted(const Model& model, PlantedText& text, typename Model::State& state) {
    const auto begin = Clock::now();
    std::vector<hydralm::token_id> piece(4096);
    std::int64_t peak = 0;
    double shown = 0.0;
    for (std::size_t n = text.read(piece); n > 0; n = text.read(piece)) {
        model.prefill(std::span(piece).first(n), state);
        peak = std::max(peak, hydralm::resident_bytes());
        if (const double seconds = since(begin); seconds - shown >= 1.0) {
            shown = seconds;
            const double rate = static_cast<double>(state.position()) / seconds;
            std::fprintf(stderr, "%lld of %lld tokens, %.0f tokens/s, %.0f s left\n",
                         static_cast<long long>(state.position()),
                         static_cast<long long>(text.size()), rate,
                         static_cast<double>(text.size() - state.position()) / rate);
        }
    }
    const double seconds = since(begin);
    return {{"tokens", text.size()},
            {"seconds", seconds},
            {"tokens_per_second", static_cast<double>(text.size()) / seconds},
            {"state_bytes", state.size()},
            {"resident_bytes_peak", peak}};
}

// One question, from a copy of the state behind the text.
template <class Model>
Json answer(const Model& model, const typename Model::State& read, PlantedText& text,
            const PlantedFact& fact, ReadsOfAToken& reads) {
    const auto begin = Clock::now();
    auto state = read;
    const auto question = text.question(fact.key);
    reads.watch(state.position() + std::ssize(question) - 1);
    const auto logits = model.prefill(question, state);
    const auto best = std::ranges::max_element(logits) - logits.begin();
    const double seconds = since(begin);
    const auto name = text.name_of(static_cast<hydralm::token_id>(best));
    const Index C = model.config.retrieval_chunk_size;
    Json chunks = Json::array();
    for (const auto& [chunk, weight] : reads.best())
        chunks.push_back({{"chunk", chunk},
                          {"weight", weight},
                          {"bytes", {text.byte_of(chunk * C), text.byte_of((chunk + 1) * C)}}});
    return {{"question", fact.key},
            {"answer", name ? Json(*name) : Json()},
            {"right", name == fact.value},
            {"seconds", seconds},
            {"planted", {{"byte", fact.place}, {"chunk", text.value_token(fact) / C}}},
            {"chunks", chunks}};
}

void print_answer(const Json& a) {
    const std::string name = a["answer"].is_null() ? "no name" : a["answer"].get<std::string>();
    std::printf("%s: %s (%s, %.1f ms), planted in chunk %lld; read chunks",
                a["question"].get<std::string>().c_str(), name.c_str(),
                a["right"].get<bool>() ? "right" : "wrong", 1e3 * a["seconds"].get<double>(),
                a["planted"]["chunk"].get<long long>());
    for (const auto& read : a["chunks"])
        std::printf(" %lld (%.3f)", read["chunk"].get<long long>(), read["weight"].get<double>());
    std::printf("\n");
    flush_output();
}

template <class Model>
void run_ask(const Options& o) {
    const Model model = load_program_model<Model>(o.model, o.weights);
    const auto vocab = task_vocab(model.vocab_size(), hydralm::TaskKind::retrieval_qa);
    TextFile file(o.text, ProgramTokenizer(), static_cast<int>(vocab));
    PlantedText text(o.ask.facts, o.text, file, o.seed);
    for (const std::string& question : o.ask.questions)
        if (text.find(question) == nullptr)
            throw hydralm::Error({.field = "--question",
                                  .expected = "the key of a --fact",
                                  .found = "'" + question + "'",
                                  .fix = "plant it with --fact '" + question + "=…'"});
    const auto reads = std::make_shared<ReadsOfAToken>();
    auto policy = bank_policy(model, o.bank);
    policy.reads = reads;
    auto state = model.new_state(Model::prefill_tile, policy);
    Json result = read_planted(model, text, state);
    add_sparse_reading(result, state);
    result["answers"] = Json::array();
    for (const std::string& question : o.ask.questions) {
        result["answers"].push_back(answer(model, state, text, *text.find(question), *reads));
        print_answer(result["answers"].back());
    }
    std::printf("%s\n", result.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
}

}  // namespace

void ask(const Options& o) {
    with_model(o, [&]<class Model>() { run_ask<Model>(o); });
}
void task(const Options& o) {
    const auto kind = *hydralm::task_kind(o.task.name);
    if (!o.task.print) {
        with_model(o, [&]<class Model>() { evaluate<Model>(o, kind); });
    } else if (program_ranks().rank() == 0) {
        const Index usual = task_vocab(std::max<Index>(512, program_config.vocab_size), kind);
        print_sequences(o, kind, o.task.vocab > 0 ? o.task.vocab : usual);
    }
}
