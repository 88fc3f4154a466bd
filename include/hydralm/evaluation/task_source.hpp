// TaskSource: sequences of a task as batches of training, stage after stage.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "hydralm/evaluation/task.hpp"
#include "hydralm/io/json_text.hpp"
#include "hydralm/io/mapped_file.hpp"
#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"
#include "hydralm/training/batch_source.hpp"

namespace HYDRALM_NAMESPACE {

// Some steps of training on sequences of one shape.
struct TaskStage {
    TaskShape shape;
    Index batch = 8;
    std::int64_t steps = 1;
    bool skip_deltanet = false;  // for TrainerOptions::frozen: leave their mixers as they are
};

// Batch i holds sequences of the stage that step i / batches_per_step lies in; after the last
// stage, of the last. The loss is on answers only.
class TaskSource : public BatchSource {
public:
    // batches_per_step: TrainerOptions::accumulate. Throws Error for stages that are empty or
    // impossible, and for less than one batch.
    TaskSource(TaskKind kind, std::vector<TaskStage> stages, Split split, std::uint64_t seed,
               int batches_per_step = 1)
        : kind_(kind),
          stages_(std::move(stages)),
          split_(split),
          seed_(seed),
          batches_per_step_(static_cast<std::uint64_t>(batches_per_step)) {
        if (batches_per_step < 1)
            raise({.field = "batches_per_step",
                   .expected = "at least 1",
                   .found = std::to_string(batches_per_step),
                   .fix = "give the batches a step accumulates"});
        if (stages_.empty())
            raise({.field = "stages",
                   .expected = "at least one",
                   .found = "none",
                   .fix = "give the task a stage"});
        for (const TaskStage& stage : stages_) {
            check_task_shape(kind, stage.shape);
            if (stage.batch < 1 || stage.batch > 1 << 20)
                raise({.field = "batch",
                       .expected = "1 to 2^20 sequences",
                       .found = std::to_string(stage.batch),
                       .fix = "give the stage another batch"});
        }
    }

    // The stage of step i, counted from 0.
    const TaskStage& stage(std::uint64_t step) const noexcept {
        for (const TaskStage& stage : stages_) {
            if (step < static_cast<std::uint64_t>(stage.steps)) return stage;
            step -= static_cast<std::uint64_t>(stage.steps);
        }
        return stages_.back();
    }
    std::int64_t steps() const noexcept {
        std::int64_t sum = 0;
        for (const TaskStage& stage : stages_) sum += stage.steps;
        return sum;
    }

    void next(Batch& batch) override {
        const TaskStage& now = stage(position_ / batches_per_step_);
        const auto length = static_cast<std::size_t>(now.shape.length);
        batch.streams = now.batch;
        batch.length = now.shape.length;
        batch.fresh = true;
        batch.tokens.resize(static_cast<std::size_t>(now.batch) * length);
        batch.labels.assign(batch.tokens.size(), kernels::ignore_index);
        for (std::size_t b = 0; b < static_cast<std::size_t>(now.batch); ++b) {
            const TaskSequence sequence(kind_, now.shape, split_, seed_, position_ << 20 | b);
            sequence.fill(0, std::span(batch.tokens).subspan(b * length, length));
            sequence.for_each_label([&](Index position, token_id label) {
                batch.labels[b * length + static_cast<std::size_t>(position)] = label;
            });
        }
        ++position_;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    TaskKind kind_;
    std::vector<TaskStage> stages_;
    Split split_;
    std::uint64_t seed_, batches_per_step_, position_ = 0;
};

// Stages from a JSON file: [{"length", "facts" (MQAR: "pairs"), "queries", "batch", "steps"}, …],
// where the task has facts and queries; optional "skip_deltanet", and of the task's own
// "key_tokens", "key_ids", "hops", "values". Throws Error for a file that is not that, naming the
// field.
inline std::vector<TaskStage> read_stages(const std::filesystem::path& path, TaskKind kind,
                                          Index vocab) {
    const MappedFile file(path);
    const detail::Json list = parse_json(file.text(), file.name(), "");
    const auto refuse = [&](std::string field, std::string expected, std::string found) {
        raise({.file = file.name(),
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = "give a list of stages as docs/training.md describes them"});
    };
    if (!list.is_array() || list.empty()) refuse("", "a list of stages", detail::shown(list));
    struct Field {
        const char* name;
        Index* value;
        bool must;
    };
    std::vector<TaskStage> stages;
    for (const detail::Json& entry : list) {
        const std::string where = "stage " + std::to_string(stages.size());
        if (!entry.is_object()) refuse(where, "an object", detail::shown(entry));
        TaskStage stage{.shape = {.vocab = vocab}};
        TaskShape& shape = stage.shape;
        Index steps = 1;
        std::vector<Field> fields{{"length", &shape.length, true}};
        if (stores_facts(kind))
            fields.push_back({kind == TaskKind::mqar ? "pairs" : "facts", &shape.facts, true});
        if (asks_queries(kind)) fields.push_back({"queries", &shape.queries, true});
        fields.insert(fields.end(), {{"batch", &stage.batch, true}, {"steps", &steps, true}});
        if (kind == TaskKind::multikey)
            fields.insert(fields.end(), {{"key_tokens", &shape.key_tokens, false},
                                         {"key_ids", &shape.key_ids, false}});
        if (kind == TaskKind::tracking) fields.push_back({"hops", &shape.hops, false});
        if (kind == TaskKind::multivalue) fields.push_back({"values", &shape.values, false});
        for (const Field& field : fields) {
            const auto found = entry.find(field.name);
            if (found == entry.end()) {
                if (field.must) refuse(where + ": " + field.name, "a number", "nothing");
                continue;
            }
            if (!found->is_number_integer() || found->get<std::int64_t>() < 1 ||
                found->get<std::int64_t>() > Index{1} << 40)
                refuse(where + ": " + field.name, "a whole number in [1, 2^40]",
                       detail::shown(*found));
            *field.value = found->get<Index>();
        }
        stage.steps = steps;
        if (const auto skip = entry.find("skip_deltanet"); skip != entry.end()) {
            if (!skip->is_boolean())
                refuse(where + ": skip_deltanet", "true or false", detail::shown(*skip));
            stage.skip_deltanet = skip->get<bool>();
        }
        for (const auto& [key, value] : entry.items())
            if (key != "skip_deltanet" &&
                std::ranges::none_of(fields, [&](const Field& f) { return f.name == key; }))
                refuse(std::string(where).append(": ").append(key), "only the fields of a stage",
                       detail::shown(value));
        attempt([&] { check_task_shape(kind, stage.shape); },
                [&](const Error& error) {
                    refuse(where + ": " + error.detail().field, error.detail().expected,
                           error.detail().found);
                });
        stages.push_back(stage);
    }
    return stages;
}

}  // namespace HYDRALM_NAMESPACE
