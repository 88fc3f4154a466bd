// What converting a checkpoint to another format did to its weights.
#pragma once

#include <hydralm/io.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

// As the report and --format name it.
inline std::string_view format_name(const hydralm::StoredTensor& tensor) {
    if (hydralm::block_bytes(tensor.format()) != 0) return hydralm::weights::name(tensor.format());
    return tensor.dtype() == hydralm::DType::bf16 ? "bf16" : "f32";
}

// Weights of a tensor; where it is blocks, with the padding of its last ones.
inline hydralm::Index weight_count(const hydralm::StoredTensor& tensor) {
    if (hydralm::block_bytes(tensor.format()) == 0) return tensor.size();
    return tensor.rows() * tensor.shape()[1] * hydralm::weights::block_size;
}

// Of one tensor, against what it was: how far the farthest weight is off, and the root of the mean
// square.
inline nlohmann::ordered_json converted(const hydralm::StoredTensor& before,
                                        const hydralm::StoredTensor& after) {
    const auto size = std::min(weight_count(before), weight_count(after));
    hydralm::AlignedBuffer<double> x(size), y(size);
    before.read(x.span());
    after.read(y.span());
    double largest = 0.0, squares = 0.0;
    for (hydralm::Index i = 0; i < x.size(); ++i) {
        const double error = std::abs(y.data()[i] - x.data()[i]);
        largest = std::max(largest, error);
        squares += error * error;
    }
    const double count = static_cast<double>(std::max<hydralm::Index>(x.size(), 1));
    return {{"name", after.name()},
            {"format", format_name(after)},
            {"largest_error", largest},
            {"rms_error", std::sqrt(squares / count)}};
}

// Of all tensors of a file that was made of another.
inline nlohmann::ordered_json convert_report(const hydralm::Checkpoint& before,
                                             const hydralm::Checkpoint& after) {
    auto tensors = nlohmann::ordered_json::array();
    double largest = 0.0, bytes = 0.0, weights = 0.0;
    for (const hydralm::StoredTensor* tensor : after.tensors()) {
        tensors.push_back(converted(before.tensor(tensor->name()), *tensor));
        largest = std::max(largest, tensors.back()["largest_error"].get<double>());
        bytes += static_cast<double>(tensor->bytes().size());
        weights += static_cast<double>(
            std::min(weight_count(before.tensor(tensor->name())), weight_count(*tensor)));
    }
    return {{"bytes", std::filesystem::file_size(after.path())},
            {"bits_per_weight", 8.0 * bytes / weights},
            {"largest_error", largest},
            {"tensors", std::move(tensors)}};
}
