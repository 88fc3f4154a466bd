// GGUF files for tests, value by value.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hydralm/io/gguf_value.hpp"

namespace hydralm::test {

class GgufWriter {
public:
    explicit GgufWriter(std::uint32_t version = 3, std::size_t alignment = 32)
        : version_(version), alignment_(alignment) {}

    template <class T>
    static std::string bytes_of(const T& value) {
        return {reinterpret_cast<const char*>(&value), sizeof value};
    }
    static std::string text_of(std::string_view text) {
        return bytes_of(std::uint64_t{text.size()}) + std::string(text);
    }

    // Values. Bytes as they are, of a type by its number.
    GgufWriter& raw(const std::string& key, std::uint32_t type, const std::string& bytes) {
        values_ += text_of(key) + bytes_of(type) + bytes;
        ++value_count_;
        return *this;
    }
    template <class T>
    GgufWriter& number(const std::string& key, GgufType type, T value) {
        return raw(key, static_cast<std::uint32_t>(type), bytes_of(value));
    }
    GgufWriter& u32(const std::string& key, std::uint32_t value) {
        return number(key, GgufType::u32, value);
    }
    GgufWriter& text(const std::string& key, std::string_view value) {
        return raw(key, 8, text_of(value));
    }
    GgufWriter& texts(const std::string& key, const std::vector<std::string>& list) {
        std::string bytes = bytes_of(std::uint32_t{8}) + bytes_of(std::uint64_t{list.size()});
        for (const std::string& value : list) bytes += text_of(value);
        return raw(key, 9, bytes);
    }
    GgufWriter& i32s(const std::string& key, const std::vector<std::int32_t>& list) {
        std::string bytes = bytes_of(std::uint32_t{5}) + bytes_of(std::uint64_t{list.size()});
        for (const std::int32_t value : list) bytes += bytes_of(value);
        return raw(key, 9, bytes);
    }

    // A tensor of this type by its number, extents from the outermost on, behind the others.
    GgufWriter& tensor(const std::string& name, const std::vector<std::uint64_t>& shape,
                       std::uint32_t type, const std::string& data) {
        data_.resize((data_.size() + alignment_ - 1) / alignment_ * alignment_, '\0');
        return tensor_at(name, shape, type, data_.size(), data);
    }
    GgufWriter& tensor_at(const std::string& name, const std::vector<std::uint64_t>& shape,
                          std::uint32_t type, std::uint64_t offset, const std::string& data) {
        infos_ += text_of(name) + bytes_of(static_cast<std::uint32_t>(shape.size()));
        for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent)
            infos_ += bytes_of(*extent);
        infos_ += bytes_of(type) + bytes_of(offset);
        data_ += data;
        ++tensor_count_;
        return *this;
    }

    // The file; counts may be others than they are.
    std::string file() const { return file(tensor_count_, value_count_); }
    std::string file(std::uint64_t tensors, std::uint64_t values) const {
        std::string all =
            "GGUF" + bytes_of(version_) + bytes_of(tensors) + bytes_of(values) + values_ + infos_;
        all.resize((all.size() + alignment_ - 1) / alignment_ * alignment_, '\0');
        return all + data_;
    }

private:
    std::uint32_t version_;
    std::size_t alignment_;
    std::uint64_t value_count_ = 0, tensor_count_ = 0;
    std::string values_, infos_, data_;
};

}  // namespace hydralm::test
