// gradients: the exact gradient of a checkpoint's loss, as a file of tensors. Ranks share the text.
#pragma once

#include <hydralm/training.hpp>

#include <string>
#include <vector>

#include "options.hpp"
#include "program_model.hpp"
#include "ranks.hpp"
#include "text_input.hpp"

template <class Model>
void run_gradients(const Options& o) {
    using T = typename Model::Scalar;
    hydralm::Ranks& ranks = program_ranks();
    const Model model = load_program_model<Model>(o.model, "float");
    const auto ids = read_ids(o.ids, model.vocab_size());
    if (ids.size() < 2)
        throw hydralm::Error({.file = o.ids,
                              .field = "ids",
                              .expected = "at least 2, for a prediction",
                              .found = std::to_string(ids.size()),
                              .fix = "give a longer text"});
    std::vector<hydralm::token_id> labels(ids.begin() + 1, ids.end());
    labels.push_back(hydralm::kernels::ignore_index);
    hydralm::GradientsOverRanks<Model> gradients(model, 1, std::ssize(ids), ranks);
    gradients.refresh(model);
    hydralm::BatchStates<Model> states(model, 1);
    const auto loss =
        gradients.add(model, ids, labels, states, 1.0 / static_cast<double>(labels.size() - 1));
    gradients.sum_over_ranks();

    constexpr hydralm::DType dtype = sizeof(T) == 4 ? hydralm::DType::f32 : hydralm::DType::f64;
    const auto name = [](const hydralm::ParameterInfo& info) {
        return "grad." + std::string(info.name());
    };
    std::vector<hydralm::TensorSpec> tensors{{"loss", {1}, dtype}};
    for (const auto& info : model.parameters)
        tensors.push_back({name(info), {info.shape().begin(), info.shape().end()}, dtype});
    const double modules = model.mtp_loss_weight * gradients.mtp_loss();  // 0 without any
    const std::vector<T> total{static_cast<T>(loss.mean() + modules)};
    ranks.on_first([&] {
        hydralm::SafetensorsWriter writer(o.out, tensors);
        writer.write("loss", std::span<const T>(total));
        gradients.for_each([&](const hydralm::ParameterInfo& info, std::span<const T> values) {
            writer.write(name(info), values);
        });
        writer.commit();
    });
}
