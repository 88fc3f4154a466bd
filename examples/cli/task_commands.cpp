// task: the synthetic tasks, as JSON lines or as a model's accuracy.
#include <hydralm/evaluation.hpp>

#include <chrono>
#include <cstdio>

#include "bank_policy.hpp"
#include "options.hpp"
#include "program_model.hpp"
#include "standard_streams.hpp"
#include "task_model.hpp"

namespace {

using hydralm::Index;
using Json = nlohmann::ordered_json;

// Facts that are not given: 32, one needle, as many pairs as fit; queries: 8, of all pairs.
hydralm::TaskShape task_shape(const TaskOptions& t, hydralm::TaskKind kind, Index length,
                              Index vocab) {
    const bool mqar = kind == hydralm::TaskKind::mqar;
    hydralm::TaskShape shape{length, t.facts, t.queries, vocab};
    if (shape.facts == 0)
        shape.facts = kind == hydralm::TaskKind::needle ? 1
                      : mqar ? std::max<Index>(1, std::min(length / 4, vocab / 4))
                             : 32;
    if (shape.queries == 0) shape.queries = mqar ? shape.facts : std::min<Index>(8, shape.facts);
    hydralm::TaskSequence::check(kind, shape);
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
            for (const auto& answer : sequence.answers()) {
                line["labels"][static_cast<std::size_t>(answer.position)] = answer.value;
                line["depth"].push_back(answer.depth);
            }
            std::printf("%s\n", line.dump().c_str());
            flush_output();
        }
    }
}

template <class Model>
void evaluate(const Options& o, hydralm::TaskKind kind) {
    Model model = load_program_model<Model>(o.model);
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
        const auto score = hydralm::score_task(model, kind, task_shape(o.task, kind, length, vocab),
                                               o.task.count, o.seed, o.task.trailers, policy);
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
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
    std::printf("%s\n", result.dump().c_str());
}

}  // namespace

void task(const Options& o) {
    const auto kind = *hydralm::task_kind(o.task.name);
    if (o.task.print) {
        const Index vocab =
            kind == hydralm::TaskKind::retrieval_qa ? 512 : program_config.vocab_size / 2 * 2;
        print_sequences(o, kind, vocab);
    } else {
        with_scalar(o.scalar, [&]<class T>(T) { evaluate<ProgramModel<T>>(o, kind); });
    }
}
