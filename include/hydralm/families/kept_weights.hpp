// kept_weights: what became of the weights of a published checkpoint in a model.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/families/published.hpp"
#include "hydralm/model/runtime_model.hpp"

namespace HYDRALM_NAMESPACE {

struct KeptWeights {
    std::string parameter;
    std::string stored;  // types of the tensors it is made of, "Q4_K" or "Q4_K and Q6_K"
    weights::Format kept;
    double largest_error;  // max |kept − stored|
    double rms_error;      // √(mean (kept − stored)²)
};

// Of every parameter of a model that open made of this checkpoint, in file order; none where that
// is not a published one. Reads the file again. Throws Error as open does.
template <Real T>
std::vector<KeptWeights> kept_weights(const RuntimeModel<T>& model,
                                      const std::filesystem::path& path) {
    const Checkpoint checkpoint(path);
    const auto published = families::published(checkpoint);
    if (!published) return {};
    const HybridShape shape = published->family->shape(published->config());
    const families::TensorMap map = published->family->tensors(shape, checkpoint);
    map.expect(checkpoint, model.parameters);
    AlignedBuffer<T> buffer(0);
    std::vector<KeptWeights> result;
    model.get_parameters([&](const ParameterInfo& info, std::span<const T> values) {
        if (buffer.size() < info.size()) buffer = AlignedBuffer<T>(info.size());
        const auto stored = buffer.span().first(values.size());
        map.read(checkpoint, info, stored);
        double largest = 0, squares = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double error =
                std::abs(static_cast<double>(values[i]) - static_cast<double>(stored[i]));
            largest = std::max(largest, error);
            squares += error * error;
        }
        std::vector<std::string_view> seen;
        std::string types;
        for (const families::TensorRows& part : map.source(info).parts) {
            const std::string_view type = checkpoint.tensor(part.tensor).type_name();
            if (std::ranges::find(seen, type) != seen.end()) continue;
            types.append(seen.empty() ? "" : " and ").append(type);
            seen.push_back(type);
        }
        result.push_back({std::string(info.name()), types, info.format, largest,
                          std::sqrt(squares / static_cast<double>(values.size()))});
    });
    return result;
}

}  // namespace HYDRALM_NAMESPACE
