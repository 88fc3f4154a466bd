// Golden vectors: a small reader of safetensors files below tests/golden, all values as double.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "hydralm/core/types.hpp"

namespace hydralm::test {

struct GoldenTensor {
    std::vector<Index> shape;
    std::vector<double> values;

    template <class T>
    std::vector<T> as() const {
        return {values.begin(), values.end()};
    }
};

struct GoldenFile {
    std::map<std::string, GoldenTensor> tensors;
    std::map<std::string, std::string> metadata;

    const GoldenTensor& operator[](const std::string& name) const {
        const auto found = tensors.find(name);
        if (found == tensors.end()) throw std::runtime_error("golden vectors: no tensor " + name);
        return found->second;
    }
};

namespace detail {
template <class Stored>
void read_values(const char* bytes, std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        Stored value;
        std::memcpy(&value, bytes + i * sizeof(Stored), sizeof(Stored));
        values[i] = static_cast<double>(value);
    }
}
}  // namespace detail

// name: relative to tests/golden. Throws std::runtime_error on a missing file or an unknown dtype.
inline GoldenFile read_golden(const std::string& name) {
    std::ifstream file(std::string(HYDRALM_GOLDEN_DIR "/") + name, std::ios::binary);
    if (!file) throw std::runtime_error("golden vectors: cannot open " + name);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, bytes.data(), sizeof header_size);
    const auto header = nlohmann::json::parse(bytes.substr(8, header_size));
    const char* data = bytes.data() + 8 + header_size;
    GoldenFile result;
    for (const auto& [key, entry] : header.items()) {
        if (key == "__metadata__") {
            for (const auto& [field, text] : entry.items())
                result.metadata[field] = text.get<std::string>();
            continue;
        }
        GoldenTensor& tensor = result.tensors[key];
        tensor.shape = entry.at("shape").get<std::vector<Index>>();
        std::size_t count = 1;
        for (const Index extent : tensor.shape) count *= static_cast<std::size_t>(extent);
        tensor.values.resize(count);
        const char* begin = data + entry.at("data_offsets").at(0).get<std::size_t>();
        const auto dtype = entry.at("dtype").get<std::string>();
        if (dtype == "F64") detail::read_values<double>(begin, tensor.values);
        else if (dtype == "F32") detail::read_values<float>(begin, tensor.values);
        else if (dtype == "I64") detail::read_values<std::int64_t>(begin, tensor.values);
        else if (dtype == "I32") detail::read_values<std::int32_t>(begin, tensor.values);
        else throw std::runtime_error("golden vectors: " + key + ": unknown dtype " + dtype);
    }
    return result;
}

}  // namespace hydralm::test
