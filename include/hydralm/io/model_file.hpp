// Models and their states as files: load, save, save_state, load_state.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "hydralm/io/checkpoint.hpp"
#include "hydralm/io/config_json.hpp"
#include "hydralm/io/json_difference.hpp"
#include "hydralm/io/safetensors_writer.hpp"
#include "hydralm/io/stack_json.hpp"
#include "hydralm/io/state_file.hpp"
#include "hydralm/io/stored_rows.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// As files have them, those in the scalar of the model as T.
template <Real T = float>
std::vector<TensorSpec> tensor_specs(std::span<const ParameterInfo> parameters) {
    constexpr DType scalar = sizeof(T) == 4 ? DType::f32 : DType::f64;
    std::vector<TensorSpec> specs;
    for (const ParameterInfo& info : parameters)
        specs.push_back({std::string(info.name()),
                         {info.shape().begin(), info.shape().end()},
                         block_bytes(info.format) != 0          ? DType::u8
                         : info.format == weights::Format::bf16 ? DType::bf16
                                                                : scalar,
                         info.format});
    return specs;
}

// From the name of every tensor of blocks to its format; empty where there is none.
inline std::string block_formats(std::span<const ParameterInfo> parameters) {
    Json formats;
    for (const ParameterInfo& info : parameters)
        if (block_bytes(info.format) != 0)
            formats[std::string(info.name())] = weights::name(info.format);
    return formats.is_null() ? "" : formats.dump();
}

// A model that a config describes; another says in its files what it is made of.
template <class Model>
concept Configured = requires(const Model& model) { model.config; };

template <class Model>
std::string fingerprint(const Model& model) {
    constexpr std::string_view scalar = sizeof(typename Model::Scalar) == 4 ? "float" : "double";
    if constexpr (requires { model.hybrid; })
        if (model.hybrid)
            return Json{{"stack", hybrid_json(*model.hybrid)}, {"scalar", scalar}}.dump();
    if constexpr (Configured<Model>) {
        std::string text = state_fingerprint(model.config, scalar);
        if constexpr (requires { model.padding; }) {  // states lie as the kernels read them
            if (model.kernel_head_dim != model.config.head_dim ||
                model.kernel_chunk != model.config.retrieval_chunk_size) {
                text.back() = ',';
                text += "\"kernel_head_dim\":" + std::to_string(model.kernel_head_dim) +
                        ",\"kernel_chunk\":" + std::to_string(model.kernel_chunk) + "}";
            }
        }
        return text;
    } else {
        return "{\"stack\":" + stack_to_json<Model>() + ",\"scalar\":" + quoted(scalar) + "}";
    }
}

// Throws Error, naming the fields or the first module that differ, for the checkpoint of another
// model.
template <class Model>
void expect_model(const Model& model, const Checkpoint& checkpoint) {
    if constexpr (Configured<Model>) {
        expect_config(model.config, read_config(checkpoint), checkpoint.name());
    } else {
        const auto entry = checkpoint.metadata().find("hydra_stack");
        if (entry == checkpoint.metadata().end())
            raise({.file = checkpoint.name(),
                   .expected = "__metadata__[\"hydra_stack\"]",
                   .found = "none",
                   .fix = "give a file that this model wrote; one with a config is loaded "
                          "into the HydraLM of its config"});
        const Json found = parse_json(entry->second, checkpoint.name(), "hydra_stack");
        const std::string difference = json_difference(Json::parse(stack_to_json<Model>()), found);
        if (!difference.empty())
            raise({.file = checkpoint.name(),
                   .field = "hydra_stack: " + difference,
                   .fix = "use a model type of the layers that the file lists"});
    }
}

// Throws Error for a published model, whose files have other names.
template <class Model>
Metadata model_metadata(const Model& model) {
    if constexpr (requires { model.hybrid; })
        if (model.hybrid)
            raise({.field = model.hybrid->family,
                   .expected = "a model that a HydraConfig describes",
                   .found = "a published one",
                   .fix = "keep the folder that it was opened from; save_published writes what "
                          "was trained, in a run by RunOptions::save_best"});
    Metadata metadata{{"format", "pt"}};
    if constexpr (Configured<Model>) metadata["hydra_config"] = config_to_json(model.config);
    else metadata["hydra_stack"] = stack_to_json<Model>();
    if (const std::string formats = block_formats(model.parameters); !formats.empty())
        metadata["hydra_format"] = formats;
    return metadata;
}

// Of a state: the model's, and how its arrays rest and its banks keep the past unless they keep all
// of it exactly.
template <class Model>
std::string fingerprint(const Model& model, const typename Model::State& state) {
    std::string text = fingerprint(model);
    if (state.rests()) {
        text.back() = ',';
        text += "\"state\":\"int16\"}";
    }
    if (state.banks().empty()) return text;
    const BankPolicy& policy = state.banks().front().policy();
    const bool sparse = std::ranges::any_of(state.banks(), &PageBank::reads_sparsely);
    if (policy.format == BankFormat::exact && !policy.bounded() && !sparse) return text;
    Json bank{{"format", name(policy.format)},
              {"exact_chunks", policy.exact_chunks},
              {"pooled_chunks", policy.pooled_chunks}};
    if (sparse) bank["bounds of keys"] = true;  // how many chunks are read is free
    text.back() = ',';
    return text + "\"bank\":" + bank.dump() + "}";
}

// The names of parameters that are not finite, in file order. Rows are asked when the next
// parameter comes: then all of them are read.
template <Real T>
class FiniteCheck {
public:
    void values(const ParameterInfo& info, std::span<const T> values) {
        settle();
        if (!std::ranges::all_of(values, [](T value) { return std::isfinite(value); }))
            names_.emplace_back(info.name());
    }
    const StoredRows<T>* rows(const ParameterInfo& info, std::unique_ptr<StoredRows<T>> rows) {
        settle();
        name_ = info.name();
        rows_ = std::move(rows);
        return rows_.get();
    }
    const std::vector<std::string>& failed() {
        settle();
        return names_;
    }

private:
    void settle() {
        if (rows_ && !rows_->finite()) names_.push_back(name_);
        rows_.reset();
    }

    std::unique_ptr<StoredRows<T>> rows_;
    std::string name_;
    std::vector<std::string> names_;
};

// What set_parameters takes: read, and a check of what it reads.
template <Real T, class Read>
struct CheckedRead {
    const Read* read;
    FiniteCheck<T>* check;

    void operator()(const ParameterInfo& info, std::span<T> values) const {
        (*read)(info, values);
        check->values(info, values);
    }
    const weights::RowSource<T>* rows(const ParameterInfo& info) const {
        return check->rows(info, read->template rows<T>(info));
    }
};

// Every parameter by read(info, values), but a matrix by read.rows<T>(info) where that is not null;
// then a warning where some are not finite. file: for that.
template <class Model, class Read, class Warn>
void read_parameters(Model& model, const std::string& file, const Read& read, const Warn& warn) {
    using T = typename Model::Scalar;
    FiniteCheck<T> check;
    model.set_parameters(CheckedRead<T, Read>{&read, &check});
    const std::vector<std::string>& not_finite = check.failed();
    if (!not_finite.empty())
        warn(Error({.file = file,
                    .field = not_finite.front(),
                    .expected = "finite weights",
                    .found = "NaN or infinity in " + listed(std::vector<std::string_view>(
                                                         not_finite.begin(), not_finite.end())),
                    .fix = "take a checkpoint from before training diverged; F64 weights beyond "
                           "the range of float need a model of double"})
                 .what());
}

// Of a checkpoint whose tensors are the parameters.
struct ReadTensors {
    const Checkpoint& checkpoint;

    template <Real T>
    void operator()(const ParameterInfo& info, std::span<T> values) const {
        checkpoint.tensor(info.name()).read(values);
    }
    template <Real T>
    std::unique_ptr<StoredRows<T>> rows(const ParameterInfo& info) const {
        auto rows = std::make_unique<StoredRows<T>>(info.cols());
        rows->add(checkpoint.tensor(info.name()), 0, info.rows());
        return rows;
    }
};

// What load does to a model that there is.
template <class Model, class Warn>
void load_into(Model& model, const Checkpoint& checkpoint, const Warn& warn) {
    expect_model(model, checkpoint);
    checkpoint.expect(tensor_specs(model.parameters));
    read_parameters(model, checkpoint.name(), ReadTensors{checkpoint}, warn);
}

}  // namespace detail

// Takes a warning, and says nothing.
struct Silent {
    void operator()(const std::string&) const noexcept {}
};

// The model with the weights of a checkpoint: a file, an index of shards, or a directory that holds
// one. F32, F16, BF16 and F64 tensors and blocks of 8 or 4 bits are converted to the model's
// scalar. All is validated through a memory map, then every tensor is packed in its turn as it is
// read, by all threads; the map is released. Weights that are NaN or infinite are loaded as they
// are; warn is told a line that names their tensors. Throws Error, naming file and tensor, for all
// that Checkpoint refuses; another config (the fields that differ); missing, unknown and misshaped
// tensors.
template <class Model, class Warn = Silent>
Model load(const Checkpoint& checkpoint, const Warn& warn = {}) {
    Model model;
    detail::load_into(model, checkpoint, warn);
    return model;
}
template <class Model, class Warn = Silent>
Model load(const std::filesystem::path& path, const Warn& warn = {}) {
    return load<Model>(Checkpoint(path), warn);
}

// Writes the model's weights, in file order, each as the model keeps it (F32 or F64, BF16, blocks
// in U8), with the config in the metadata; whole or not at all. load gives them back bit for bit.
// Throws Error as AtomicFile does.
template <class Model>
void save(const Model& model, const std::filesystem::path& path) {
    SafetensorsWriter writer(path, detail::tensor_specs<typename Model::Scalar>(model.parameters),
                             detail::model_metadata(model));
    model.get_parameters(
        [&](const ParameterInfo& info, std::span<const typename Model::Scalar> values) {
            writer.write(info.name(), values);
        });
    writer.commit();
}

// Writes what a stream carries on; load_state gives a state that goes on exactly where this one is.
// Atomic, page by page. Throws Error as AtomicFile does, and for a moved-from state.
template <class Model>
void save_state(const Model& model, const typename Model::State& state,
                const std::filesystem::path& path) {
    state.expect_bytes(model.state_bytes);
    const std::int64_t position = state.position();
    std::uint64_t bank_bytes = 0;
    for (const PageBank& bank : state.banks())
        bank_bytes += static_cast<std::uint64_t>(bank.bytes(position));
    StateWriter writer(
        path, detail::fingerprint(model, state),
        {{"position", sizeof(position)}, {"values", state.bytes().size()}, {"banks", bank_bytes}});
    writer.write(std::as_bytes(std::span(&position, 1)));
    writer.write(state.bytes());
    for (const PageBank& bank : state.banks())
        bank.for_each_page(position, [&](std::span<const std::byte> page) { writer.write(page); });
    writer.commit();
}

// policy: how the state keeps the past; where pages lie and how many groups are open is free, the
// rest as it was saved. tile: as in Model::new_state; a policy of bounded_banks has room
// for the tile it was made for. Throws Error for all that StateFile refuses: another kind of
// file, version, config, policy or scalar, a changed or missing byte.
template <class Model>
typename Model::State load_state(const Model& model, const std::filesystem::path& path,
                                 const BankPolicy& policy = {}, Index tile = Model::prefill_tile) {
    auto state = model.new_state(tile, policy);
    const StateFile file(path, detail::fingerprint(model, state));
    file.expect_only({"position", "values", "banks"});
    std::int64_t position = 0;
    file.read("position", std::span(&position, 1));
    file.expect_position(position);
    state.restore(file.section("values"), file.section("banks"), position);
    return state;
}

}  // namespace HYDRALM_NAMESPACE
