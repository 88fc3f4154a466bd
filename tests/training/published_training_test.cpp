// Training of published models, as they are read: loss and gradient, the same with recomputation
// and after a stop, and their checkpoints in the layout of their family.
#include <cmath>
#include <filesystem>
#include <vector>

#include "hydralm/training.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/runtime_blocks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

const std::string folder = HYDRALM_GOLDEN_DIR "/published/";
// One of every family, and every option between them.
const std::vector<std::string> names{
    "qwen35_text",      "qwen35_untied_odd",    "qwen35_composite_sharded", "qwen3next_dense_r3",
    "olmo_hybrid_nope", "olmo_hybrid_rope_gqa", "fla_gdn_hybrid",           "fla_gdn_plain",
    "fla_gdn_sigmoid",  "fla_kda_pure"};

template <class T>
RuntimeModel<T> open_published(const std::string& name) {
    return open<T>(folder + name, weights::Float{}, NoKernels{});
}

std::vector<token_id> next_tokens(std::span<const token_id> ids) {
    std::vector<token_id> labels(ids.begin() + 1, ids.end());
    labels.push_back(kernels::ignore_index);
    return labels;
}

// Mean loss of one text read from the beginning; the gradient is in gradients.
template <class T>
double loss_of(Gradients<RuntimeModel<T>>& gradients, const RuntimeModel<T>& model,
               const std::vector<token_id>& ids) {
    BatchStates<RuntimeModel<T>> states(model, 1);
    const auto N = static_cast<Index>(ids.size());
    gradients.refresh(model);
    gradients.clear();
    return gradients
        .add(model, ids, next_tokens(ids), states.streams(N), 1.0 / static_cast<double>(N - 1))
        .mean();
}

// What the vectors of two folders leave to be computed.
double loss_of_logits(const GoldenFile& expected, const std::vector<token_id>& ids) {
    const auto& logits = expected["logits"];
    const auto V = static_cast<std::size_t>(logits.shape[1]);
    double loss = 0.0;
    for (std::size_t n = 0; n + 1 < ids.size(); ++n) {
        const auto row = std::span(logits.values).subspan(n * V, V);
        double sum = 0.0;
        for (const double logit : row) sum += std::exp(logit);
        loss += std::log(sum) - row[static_cast<std::size_t>(ids[n + 1])];
    }
    return loss / static_cast<double>(ids.size() - 1);
}

// Adds step times direction to tensor `which`.
void move(RuntimeModel<double>& model, std::size_t which, const std::vector<double>& direction,
          double step) {
    std::vector<std::vector<double>> all;
    model.get_parameters([&](const ParameterInfo&, std::span<const double> values) {
        all.emplace_back(values.begin(), values.end());
    });
    for (std::size_t i = 0; i < direction.size(); ++i) all[which][i] += step * direction[i];
    std::size_t next = 0;
    model.set_parameters([&](const ParameterInfo&, std::span<double> values) {
        std::copy(all[next].begin(), all[next].end(), values.begin());
        ++next;
    });
}

template <class Model>
std::vector<std::vector<typename Model::Scalar>> weights_of(const Model& model) {
    std::vector<std::vector<typename Model::Scalar>> all;
    model.get_parameters(
        [&](const ParameterInfo&, auto values) { all.emplace_back(values.begin(), values.end()); });
    return all;
}

// Windows of a text of 40 ids: they repeat, so that their loss falls. Every other batch goes on.
class Windows : public BatchSource {
public:
    explicit Windows(Index vocab_size) {
        for (Index i = 0; i < 40; ++i)
            text_.push_back(static_cast<token_id>(i * i % std::min<Index>(vocab_size, 37)));
    }
    void next(Batch& batch) override {
        batch.streams = 2;
        batch.length = 19;
        batch.fresh = position_ % 2 == 0;
        batch.tokens.clear();
        batch.labels.clear();
        for (Index i = 0; i < 38; ++i) {
            const std::size_t at = (19 * (position_ % 2) + static_cast<std::size_t>(i) % 19);
            batch.tokens.push_back(text_[at]);
            batch.labels.push_back(text_[at + 1]);
        }
        ++position_;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    std::vector<token_id> text_;
    std::uint64_t position_ = 0;
};

TrainerOptions options_of(Keep keep = Keep::everything) {
    TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.keep = keep;
    options.rate = {.peak = 3e-3, .least = 3e-3, .warmup = 0, .total = 8};
    options.frozen = [](const ParameterInfo& info, std::int64_t) {
        return info.rank == 3 && info.cols() == 1;  // no convolution
    };
    return options;
}

template <class Model>
std::vector<double> losses(Model& model, Keep keep) {
    Trainer<Model> trainer(model, options_of(keep));
    Windows source(model.vocab_size());
    std::vector<double> all;
    for (int step = 0; step < 8; ++step) all.push_back(trainer.step(source).loss);
    return all;
}

}  // namespace

TEMPLATE_TEST_CASE("The loss of a published model is what it should be", "[published_training]",
                   float, double) {
    using T = TestType;
    for (const std::string& name : names) {
        const auto model = open_published<T>(name);
        const GoldenFile expected = read_golden("published/" + name + "/expected.safetensors");
        const auto ids = expected["input_ids"].as<token_id>();
        Gradients<RuntimeModel<T>> gradients(model, 1, static_cast<Index>(ids.size()));
        const double wanted = expected.tensors.contains("loss") ? expected["loss"].values[0]
                                                                : loss_of_logits(expected, ids);
        check_close(std::vector{loss_of(gradients, model, ids)}, std::vector{wanted},
                    sizeof(T) == 4 ? 1e-4 : 1e-9, name);
    }
}

TEST_CASE("The gradient of a published model is that of its loss, tensor by tensor",
          "[published_training]") {
    for (const std::string& name : names) {
        auto model = open_published<double>(name);
        const GoldenFile expected = read_golden("published/" + name + "/expected.safetensors");
        auto ids = expected["input_ids"].as<token_id>();
        ids.resize(std::min<std::size_t>(ids.size(), 21));
        const auto N = static_cast<Index>(ids.size());
        Gradients<RuntimeModel<double>> gradients(model, 1, N), other(model, 1, N);
        loss_of(gradients, model, ids);
        Random random(7, 1);
        std::size_t which = 0;
        gradients.for_each([&](const ParameterInfo& info, std::span<const double> gradient) {
            std::vector<double> direction;
            double along = 0.0, size = 0.0;
            for (const double g : gradient) {
                direction.push_back(random.normal());
                along += g * direction.back();
                size += g * g;
            }
            const double step = 1e-4 / std::sqrt(static_cast<double>(direction.size()));
            move(model, which, direction, step);
            const double above = loss_of(other, model, ids);
            move(model, which, direction, -2 * step);
            const double below = loss_of(other, model, ids);
            move(model, which++, direction, step);
            INFO(name << ", " << info.name());
            CHECK(std::abs((above - below) / (2 * step) - along) < 1e-5 * std::sqrt(size) + 1e-8);
        });
    }
}

TEST_CASE("A published model learns, with recomputation and other threads to the same bits",
          "[published_training]") {
    for (const std::string& name : names) {
        INFO(name);
        auto model = open_published<float>(name), again = open_published<float>(name);
        const int before = num_threads();
        const auto stored = losses(model, Keep::everything);
        set_num_threads(before == 1 ? 3 : 1);
        const auto recomputed = losses(again, Keep::block_inputs);
        set_num_threads(before);
        CHECK(stored == recomputed);
        CHECK(weights_of(model) == weights_of(again));
        CHECK(stored.back() < 0.9 * stored.front());
    }
}

TEST_CASE("Training of a published model goes on as it would have", "[published_training]") {
    for (const std::string name : {"qwen35_text", "fla_gdn_hybrid"}) {
        INFO(name);
        const TemporaryDirectory directory;
        using Model = RuntimeModel<float>;
        const auto run = [&](Model& model, const char* to, std::int64_t stop_after, bool resume) {
            Trainer<Model> trainer(model, options_of());
            Windows source(model.vocab_size()), held_out(model.vocab_size());
            TrainingRun<Model> all(
                trainer, source, &held_out,
                {.steps = 8,
                 .eval_every = 1,
                 .eval_batches = 1,
                 .directory = directory / to,
                 .save_best =
                     [&](const auto& best) { save_published(model, folder + name, best); }},
                "{}");
            if (resume) all.resume([](const std::string&) { FAIL(); });
            all.run([&] { return trainer.steps() == stop_after; }, [](const auto&, const auto&) {});
        };
        auto whole = open_published<float>(name), stopped = open_published<float>(name),
             resumed = open_published<float>(name);
        run(whole, "whole", 0, false);
        run(stopped, "parts", 3, false);
        run(resumed, "parts", 0, true);
        CHECK(weights_of(whole) == weights_of(resumed));
        const auto best = open<float>(directory / "whole/best.safetensors", NoKernels{});
        CHECK(best.hybrid->family == whole.hybrid->family);
        auto model = open_published<float>(name);
        Trainer<Model> trainer(model, options_of());
        Windows source(model.vocab_size()), held_out(model.vocab_size());
        check_error(
            [&] {
                TrainingRun<Model>(trainer, source, &held_out, {.directory = directory / "x"},
                                   "{}");
            },
            {"RunOptions::save_best"});
    }
}

TEST_CASE("A trained published model is written as its family writes it", "[published_training]") {
    for (const std::string& name : names) {
        INFO(name);
        auto model = open_published<float>(name);
        losses(model, Keep::everything);
        const TemporaryDirectory directory;
        save_published(model, folder + name, directory / "model.safetensors");
        const auto saved = open<float>(directory.path(), NoKernels{});
        const auto expected = weights_of(model), found = weights_of(saved);
        REQUIRE(expected.size() == found.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            INFO(model.parameters[i].name());
            if (model.parameters[i].law.role == ParameterRole::norm)  // kept less 1 by some
                check_close(found[i], expected[i], 1e-7, "norm");
            else CHECK(same_bits(found[i], expected[i]));
        }
        CHECK(read_text(directory / "config.json") == read_text(folder + name + "/config.json"));
        const Checkpoint from(folder + name), to(directory.path());
        for (const StoredTensor* tensor : from.tensors()) {
            INFO(tensor->name());
            const StoredTensor& written = to.tensor(tensor->name());
            CHECK(written.shape() == tensor->shape());
            if (!tensor->name().starts_with("mtp.") &&
                tensor->name().find("visual.") == std::string::npos)
                continue;
            CHECK(std::ranges::equal(written.bytes(), tensor->bytes()));
            CHECK(written.dtype() == tensor->dtype());
        }
        CHECK(to.tensors().size() == from.tensors().size());
    }
}

TEST_CASE("A head that repeats the embedding is not written", "[published_training]") {
    for (const std::string name : {"qwen35_untied_odd", "qwen3next_dense", "olmo_hybrid_nope",
                                   "fla_gdn_pure", "fla_kda_pure"}) {
        INFO(name);
        const TemporaryDirectory from, to;
        std::string config = read_text(folder + name + "/config.json");
        const std::string untied = "\"tie_word_embeddings\": false";
        config.replace(config.find(untied), untied.size(), "\"tie_word_embeddings\": true");
        write_text(from / "config.json", config);
        std::filesystem::copy_file(folder + name + "/model.safetensors",
                                   from / "model.safetensors");
        save_published(open<float>(from.path(), NoKernels{}), from.path(),
                       to / "model.safetensors");
        const Checkpoint golden(from.path()), saved(to.path());
        CHECK(golden.find("lm_head.weight") != nullptr);
        CHECK(saved.find("lm_head.weight") == nullptr);
        CHECK(saved.tensors().size() + 1 == golden.tensors().size());
    }
}

TEST_CASE("What a model is opened from is not written over, nor another's checkpoint",
          "[published_training]") {
    const auto model = open_published<float>("qwen35_text");
    const TemporaryDirectory source, linked, sharded;
    for (const char* const file : {"config.json", "model.safetensors"})
        std::filesystem::copy_file(folder + "qwen35_text/" + file, source / file);
    const std::string before = read_text(source / "model.safetensors");
    for (const char* const file : {"config.json", "model.safetensors", "tokenizer.json"}) {
        write_text(source / "tokenizer.json", "{}");
        std::filesystem::create_symlink(source / file, linked / file);
        check_error([&] { save_published(model, source.path(), linked / "model.safetensors"); },
                    {file, "no file of the folder the model was opened from, found the same as"});
        std::filesystem::remove(linked / file);
    }
    std::filesystem::create_directory_symlink(source.path(), linked / "all");
    check_error([&] { save_published(model, source.path(), linked / "all" / "m.safetensors"); },
                {"another folder"});
    CHECK(read_text(source / "model.safetensors") == before);
    write_text(sharded / "model.safetensors.index.json", "{}");
    check_error([&] { save_published(model, source.path(), sharded / "model.safetensors"); },
                {"model.safetensors.index.json: expected a folder without a checkpoint in shards"});
    CHECK(sharded.names().size() == 1);
}

TEST_CASE("What cannot be trained or written of published models is refused by name",
          "[published_training]") {
    using Model = RuntimeModel<float>;
    const TemporaryDirectory directory;
    const auto stored = open<float>(folder + "qwen35_composite_bf16", NoKernels{});
    check_error([&] { Gradients<Model>(stored, 1, 8); },
                {"to be trained, found bf16", "open the checkpoint with weights::Float"});
    auto model = open_published<float>("qwen35_text");
    const auto out = directory / "model.safetensors";
    check_error([&] { save_published(model, HYDRALM_GOLDEN_DIR "/gguf/f16.gguf", out); },
                {"f16.gguf: expected the folder of a published model", "found a GGUF file"});
    check_error([&] { save_published(model, HYDRALM_GOLDEN_DIR "/model/hybrid_4l", out); },
                {"found no config.json of one; write a model of the library's own with save"});
    check_error([&] { save_published(model, folder + "fla_gdn_pure", out); },
                {"config.json: layers: ", "save a model with the folder"});
    check_error(
        [&] {
            save_published(model, folder + "qwen35_text", folder + "qwen35_text/m.safetensors");
        },
        {"another folder", "found the same"});
    CHECK(!std::filesystem::exists(out));
    save_published(model, folder + "qwen35_text", out);
    const auto other = open_published<float>("fla_gdn_pure");
    check_error([&] { save_published(other, folder + "fla_gdn_pure", out); },
                {"config.json: expected the config.json of the model that is written, or none"});
    auto plain = open_published<float>("fla_gdn_plain");
    plain.set_parameters(
        [](const ParameterInfo&, std::span<float> values) { std::ranges::fill(values, 0.5F); });
    const TemporaryDirectory empty;
    check_error(
        [&] { save_published(plain, folder + "fla_gdn_plain", empty / "model.safetensors"); },
        {"fla_gdn_plain/model.safetensors: blocks.0.mixer.short_conv.conv.weight",
         "TrainerOptions::frozen"});
}
