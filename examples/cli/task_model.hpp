// What tasks need to know of a model: the vocabulary they use, and which tensors belong to what
// mixers.
#pragma once

#include <hydralm/evaluation/task.hpp>

#include <string>
#include <vector>

#include "program_model.hpp"

// The task's vocabulary for a model of vocab ids; retrieval_qa has its own. Throws Error when the
// model's is too small.
inline hydralm::Index task_vocab(hydralm::Index vocab, hydralm::TaskKind kind) {
    const hydralm::Index needed = kind == hydralm::TaskKind::retrieval_qa ? 512 : 16;
    if (vocab < needed)
        throw hydralm::Error({.field = "vocab_size",
                              .expected = "at least " + std::to_string(needed) + " for this task",
                              .found = std::to_string(vocab),
                              .fix = "use a model of a config with that many ids"});
    return kind == hydralm::TaskKind::retrieval_qa ? 512 : vocab / 2 * 2;
}

// Whether a tensor is one of blocks.<i>.mixer for a layer i of this type.
template <class Model>
bool in_mixer(const Model& model, const hydralm::ParameterInfo& info, hydralm::LayerType type) {
    const std::string name(info.name());
    if (!name.starts_with("blocks.") || name.find(".mixer.") == std::string::npos) return false;
    return model.config.layer_types[std::stoi(name.substr(7))] == type;
}

// f(info, values) may change every tensor.
template <class Model, class F>
void change_parameters(Model& model, const F& f) {
    std::vector<typename Model::Scalar> all;
    model.get_parameters(
        [&](const auto&, auto values) { all.insert(all.end(), values.begin(), values.end()); });
    auto next = all.begin();
    model.set_parameters([&](const hydralm::ParameterInfo& info, auto values) {
        std::copy_n(next, values.size(), values.begin());
        next += static_cast<std::ptrdiff_t>(values.size());
        f(info, values);
    });
}
