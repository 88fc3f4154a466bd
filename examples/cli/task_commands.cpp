// task: the synthetic tasks, as JSON lines or as a model's accuracy.
#include <hydralm/evaluation.hpp>

#include <chrono>
#include <cstdio>

#include "bank_policy.hpp"
#include "options.hpp"
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
                                     {"seconds", seconds}});
    }
    if (speaks()) std::printf("%s\n", result.dump().c_str());
}

}  // namespace

void task(const Options& o) {
    const auto kind = *hydralm::task_kind(o.task.name);
    if (!o.task.print) {
        with_model(o, [&]<class Model>() { evaluate<Model>(o, kind); });
    } else if (program_ranks().rank() == 0) {
        const Index usual = task_vocab(std::max<Index>(512, program_config.vocab_size), kind);
        print_sequences(o, kind, o.task.vocab > 0 ? o.task.vocab : usual);
    }
}
