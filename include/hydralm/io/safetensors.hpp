// SafetensorsFile: the reader of one safetensors file, validated whole before anything is used.
//
// Layout: 8 bytes n (little-endian), n bytes of JSON {name: {dtype, shape, data_offsets},
// "__metadata__": {text: text}}, then the data. Every byte of the data belongs to exactly one
// tensor, and the header is at most 100 MB. Source: github.com/huggingface/safetensors, "Format".
#pragma once

#include <algorithm>
#include <map>

#include "hydralm/io/json_text.hpp"
#include "hydralm/io/mapped_file.hpp"
#include "hydralm/io/stored_tensor.hpp"

namespace HYDRALM_NAMESPACE {

using Metadata = std::map<std::string, std::string>;

class SafetensorsFile {
public:
    // Maps and checks the file; reads no tensor. Throws Error naming the file, the tensor, what was
    // expected and found: for all that MappedFile refuses; a header that is cut off, too large or
    // not the JSON above; a key given twice; an unknown dtype; a shape whose size overflows or does
    // not match its bytes; tensors that overlap, leave a hole, or end before or beyond the end of
    // the file.
    explicit SafetensorsFile(const std::filesystem::path& path) : file_(path) { parse(); }

    const std::string& name() const noexcept { return file_.name(); }
    const Metadata& metadata() const noexcept { return metadata_; }
    // In the order of their bytes.
    const std::vector<StoredTensor>& tensors() const noexcept { return tensors_; }

    // Null when there is none of that name.
    const StoredTensor* find(std::string_view tensor) const noexcept {
        const auto found = by_name_.find(tensor);
        return found == by_name_.end() ? nullptr : found->second;
    }
    // Throws Error when there is none.
    const StoredTensor& tensor(std::string_view tensor_name) const {
        if (const StoredTensor* found = find(tensor_name)) return *found;
        raise({.file = name(),
               .field = std::string(tensor_name),
               .expected = "a tensor of this name",
               .found = std::to_string(tensors_.size()) + " others",
               .fix = "use the checkpoint of this configuration"});
    }

private:
    using Json = detail::Json;
    static constexpr std::uint64_t largest_header = 100'000'000;

    struct Range {
        TensorSpec spec;
        std::uint64_t begin;
        std::uint64_t end;
    };

    void parse() {
        const auto bytes = file_.bytes();
        if (bytes.size() < 8)
            fail("", "at least the 8 bytes of the header's length",
                 std::to_string(bytes.size()) + " bytes", cut_off);
        std::uint64_t length = 0;
        std::memcpy(&length, bytes.data(), sizeof(length));
        if (length > largest_header)
            fail("header", "at most 100000000 bytes", std::to_string(length),
                 "this is probably not a safetensors file");
        if (length > bytes.size() - 8) {
            fail("header", std::to_string(length) + " bytes",
                 std::to_string(bytes.size() - 8) + " before the end of file", cut_off);
        }
        const std::string_view text = file_.text().substr(8, length);
        if (!text.starts_with('{'))
            fail("header", "JSON that starts with {", "something else", rewrite);
        const Json header = parse_json(text, name(), "header", largest_header);
        std::vector<Range> ranges;
        for (const auto& [key, value] : header.items()) {
            if (key == "__metadata__") parse_metadata(value);
            else ranges.push_back(parse_entry(key, value));
        }
        place(ranges, bytes.subspan(8 + static_cast<std::size_t>(length)));
    }

    void parse_metadata(const Json& value) {
        if (!value.is_object())
            fail("__metadata__", "an object of texts", detail::shown(value), rewrite);
        for (const auto& [key, text] : value.items()) {
            if (!text.is_string())
                fail("__metadata__." + key, "a text", detail::shown(text), rewrite);
            metadata_.emplace(key, text.get<std::string>());
        }
    }

    Range parse_entry(const std::string& tensor, const Json& value) const {
        if (!value.is_object()) fail(tensor, "an object", detail::shown(value), rewrite);
        for (const auto& [key, unused] : value.items()) {
            if (key != "dtype" && key != "shape" && key != "data_offsets")
                fail(tensor, "only dtype, shape and data_offsets", "\"" + key + "\"", rewrite);
        }
        const Json& dtype_text = member(tensor, value, "dtype");
        const auto dtype = dtype_text.is_string()
                               ? dtype_named(dtype_text.get_ref<const std::string&>())
                               : std::nullopt;
        if (!dtype) {
            fail(tensor, "a dtype such as F32, F16, BF16, F64 or I64", detail::shown(dtype_text),
                 "convert the tensor and write the file again");
        }
        const std::vector<std::uint64_t> extents = naturals(tensor, value, "shape");
        const std::vector<std::uint64_t> offsets = naturals(tensor, value, "data_offsets");
        if (offsets.size() != 2 || offsets[0] > offsets[1])
            fail(tensor, "data_offsets [begin, end] with begin <= end",
                 detail::shown(value["data_offsets"]), rewrite);
        TensorSpec spec{tensor, {}, *dtype};
        // Extents are multiplied as if none were 0, so that no product of some of them overflows
        // later either.
        std::uint64_t largest = static_cast<std::uint64_t>(byte_size(*dtype));
        std::uint64_t size = largest;
        for (const std::uint64_t extent : extents) {
            if (extent > std::uint64_t{std::numeric_limits<Index>::max()} / largest)
                fail(tensor, "a shape of less than 2^63 bytes", detail::shown(value["shape"]),
                     rewrite);
            largest *= std::max<std::uint64_t>(extent, 1);
            size *= extent;
            spec.shape.push_back(static_cast<Index>(extent));
        }
        if (offsets[1] - offsets[0] != size) {
            fail(tensor,
                 std::to_string(size) + " bytes for " + std::string(hydralm::name(*dtype)) +
                     " of shape " + shape_text(spec.shape),
                 std::to_string(offsets[1] - offsets[0]), rewrite);
        }
        return {std::move(spec), offsets[0], offsets[1]};
    }

    const Json& member(const std::string& tensor, const Json& value, const char* key) const {
        const auto found = value.find(key);
        if (found == value.end())
            fail(tensor, std::string("a member \"") + key + "\"", "none", rewrite);
        return *found;
    }

    std::vector<std::uint64_t> naturals(const std::string& tensor, const Json& value,
                                        const char* key) const {
        const Json& list = member(tensor, value, key);
        std::vector<std::uint64_t> numbers;
        bool valid = list.is_array();
        for (const Json& item : list) {
            valid = valid && item.is_number_unsigned();
            if (valid) numbers.push_back(item.get<std::uint64_t>());
        }
        if (!valid)
            fail(tensor, std::string(key) + " as a list of whole numbers", detail::shown(list),
                 rewrite);
        return numbers;
    }

    // Tensors must follow one another without gaps from the first byte of data to the last.
    void place(std::vector<Range>& ranges, std::span<const std::byte> data) {
        std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
            return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
        });
        std::uint64_t end = 0;
        for (const Range& range : ranges) {
            if (range.begin != end) {
                fail(range.spec.name, "data from byte " + std::to_string(end),
                     std::to_string(range.begin) +
                         (range.begin < end ? " (tensors overlap)" : " (a hole)"),
                     rewrite);
            }
            if (range.end > data.size()) {
                fail(range.spec.name, "data up to byte " + std::to_string(range.end),
                     std::to_string(data.size()) + " bytes of data", cut_off);
            }
            end = range.end;
        }
        if (end != data.size()) {
            fail("", std::to_string(end) + " bytes of data", std::to_string(data.size()),
                 "bytes that belong to no tensor: copy or write the file again");
        }
        const auto file_name = std::make_shared<const std::string>(name());
        tensors_.reserve(ranges.size());
        for (Range& range : ranges) {
            const auto bytes = data.subspan(static_cast<std::size_t>(range.begin),
                                            static_cast<std::size_t>(range.end - range.begin));
            tensors_.emplace_back(file_name, std::move(range.spec), bytes);
            by_name_.emplace(tensors_.back().name(), &tensors_.back());
        }
        name_blocks();
    }

    // Which tensors are blocks of weights: a JSON object from name to format in the metadata. Names
    // of other shards are none of ours.
    void name_blocks() {
        const auto entry = metadata_.find("hydra_format");
        if (entry == metadata_.end()) return;
        const Json formats = parse_json(entry->second, name(), "hydra_format");
        if (!formats.is_object())
            fail("hydra_format", "an object of tensor: format", detail::shown(formats), rewrite);
        for (const auto& [tensor, format] : formats.items()) {
            const std::string_view named =
                format.is_string() ? format.get_ref<const std::string&>() : std::string_view();
            const bool q8 = named == weights::name(weights::Format::q8);
            if (!q8 && named != weights::name(weights::Format::q4))
                fail("hydra_format." + tensor, "q8 or q4", detail::shown(format), rewrite);
            const auto found = std::ranges::find(tensors_, tensor, &StoredTensor::name);
            if (found != tensors_.end())
                found->become_blocks(q8 ? weights::Format::q8 : weights::Format::q4);
        }
    }

    [[noreturn]] void fail(const std::string& tensor, std::string expected, std::string found,
                           const char* fix) const {
        raise({.file = name(),
               .field = tensor,
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = fix});
    }

    static constexpr const char* cut_off = "the file was cut off: copy or download it again";
    static constexpr const char* rewrite = "write the file again with a safetensors library";

    MappedFile file_;
    Metadata metadata_;
    std::vector<StoredTensor> tensors_;  // never resized once filled: by_name_ points into it
    std::map<std::string_view, const StoredTensor*> by_name_;
};

}  // namespace HYDRALM_NAMESPACE
