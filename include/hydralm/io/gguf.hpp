// GgufFile: the reader of one GGUF file, validated whole before anything is used.
//
// Layout, little-endian: "GGUF", version (2 or 3), the numbers of tensors and of values, the values
// {key, type, value}, the tensors {name, extents from the innermost on, type, offset}, and their
// data: it begins, and every tensor in it, at a multiple of general.alignment (32 where there is no
// such value). Source: github.com/ggml-org/ggml, docs/gguf.md.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "hydralm/io/gguf_value.hpp"
#include "hydralm/io/mapped_file.hpp"
#include "hydralm/io/stored_tensor.hpp"

namespace HYDRALM_NAMESPACE {

// Whether a file is one by its name or by its first bytes. No folder is.
inline bool is_gguf(const std::filesystem::path& path) {
    std::array<char, 4> magic{};
    std::error_code unknown;
    if (std::filesystem::is_directory(path, unknown)) return false;
    if (path.extension() == ".gguf") return true;
    if (std::filesystem::is_regular_file(path, unknown))
        std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
    return std::string_view(magic.data(), magic.size()) == "GGUF";
}

namespace detail {

// A type of a tensor's elements: of one of the library's, of blocks, or, with neither, not read.
struct GgufElements {
    std::uint32_t number;
    std::string_view name;
    std::optional<DType> dtype = {};
    const BlockCode* code = nullptr;
};
inline constexpr std::array gguf_elements{
    GgufElements{0, "F32", DType::f32},
    GgufElements{1, "F16", DType::f16},
    GgufElements{2, "Q4_0", DType::u8, &block_codes::q4_0},
    GgufElements{3, "Q4_1"},
    GgufElements{6, "Q5_0"},
    GgufElements{7, "Q5_1"},
    GgufElements{8, "Q8_0", DType::u8, &block_codes::q8_0},
    GgufElements{9, "Q8_1"},
    GgufElements{10, "Q2_K"},
    GgufElements{11, "Q3_K"},
    GgufElements{12, "Q4_K", DType::u8, &block_codes::q4_k},
    GgufElements{13, "Q5_K", DType::u8, &block_codes::q5_k},
    GgufElements{14, "Q6_K", DType::u8, &block_codes::q6_k},
    GgufElements{15, "Q8_K"},
    GgufElements{16, "IQ2_XXS"},
    GgufElements{17, "IQ2_XS"},
    GgufElements{18, "IQ3_XXS"},
    GgufElements{19, "IQ1_S"},
    GgufElements{20, "IQ4_NL", DType::u8, &block_codes::iq4_nl},
    GgufElements{21, "IQ3_S"},
    GgufElements{22, "IQ2_S"},
    GgufElements{23, "IQ4_XS", DType::u8, &block_codes::iq4_xs},
    GgufElements{24, "I8", DType::i8},
    GgufElements{25, "I16", DType::i16},
    GgufElements{26, "I32", DType::i32},
    GgufElements{27, "I64", DType::i64},
    GgufElements{28, "F64", DType::f64},
    GgufElements{29, "IQ1_M"},
    GgufElements{30, "BF16", DType::bf16},
    GgufElements{34, "TQ1_0"},
    GgufElements{35, "TQ2_0"},
    GgufElements{39, "MXFP4"}};

}  // namespace detail

class GgufFile {
public:
    // Maps and checks the file; reads no tensor. Throws Error naming the file, the key or the
    // tensor, what was expected and found: for all that MappedFile refuses; another magic or
    // version; numbers of things for which the file has no bytes; a key or a name given twice; a
    // type of value that there is not or of elements that is not read; an alignment that is no
    // power of two up to 65,536; arrays of arrays; more than 65,536 values or
    // tensors, or 4 extents; extents that overflow or are no whole blocks; tensors that overlap,
    // leave a hole, or end beyond the end of the file; bytes behind the last.
    explicit GgufFile(const std::filesystem::path& path) : file_(path) {
        GgufCursor from(name(), file_.bytes());
        read_header(from);
    }

    const std::string& name() const noexcept { return file_.name(); }
    // In the order of their bytes.
    const std::vector<StoredTensor>& tensors() const noexcept { return tensors_; }

    // Null when there is none of that key.
    const GgufValue* find(std::string_view key) const noexcept {
        const auto found = values_.find(key);
        return found == values_.end() ? nullptr : &found->second;
    }
    // Throw Error when there is none, or one that is no text or no array of such elements.
    std::string_view text(const std::string& key) const {
        const GgufValue* const value = find(key);
        const auto found = value == nullptr ? std::nullopt : value->text();
        if (!found) refuse(key, "a text", said(value), rewrite);
        return *found;
    }
    const GgufValue& array(const std::string& key, GgufType element) const {
        const GgufValue* const value = find(key);
        if (value == nullptr || !value->is_array_of(element))
            refuse(key, element == GgufType::text ? "an array of texts" : "an array of I32",
                   said(value), rewrite);
        return *value;
    }
    // What was found of a value, for a message.
    static std::string said(const GgufValue* value) {
        return value == nullptr ? "none" : detail::shown(value->json());
    }

    [[noreturn]] void refuse(std::string field, std::string expected, std::string found,
                             const char* fix = rewrite) const {
        raise({.file = name(),
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = fix});
    }

private:
    struct Range {
        TensorSpec spec;
        const BlockCode* code;
        std::uint64_t begin;
        std::uint64_t bytes;
    };
    static constexpr std::uint64_t most_elements = std::uint64_t{1} << 59;
    static constexpr std::uint64_t most_things = 65536;  // tensors, and values
    static constexpr const char* rewrite = "write the file again with the tool that made it";
    static constexpr const char* cut_off = "the file was cut off: copy or download it again";
    static constexpr const char* another =
        "give a file of version 2 or 3 in little-endian order, as llama.cpp writes them";

    void read_header(GgufCursor& from) {
        const auto magic = from.take(4, "magic");
        if (std::memcmp(magic.data(), "GGUF", 4) != 0)
            refuse("magic", "GGUF", "something else", "give a GGUF file");
        const auto version = from.number<std::uint32_t>("version");
        if (version != 2 && version != 3)
            refuse("version", "2 or 3", std::to_string(version), another);
        // A tensor has a length, a number of extents, a type and an offset; a value a length, a
        // type and a byte.
        const auto tensor_count = from.count(8 + 4 + 4 + 8, most_things, "number of tensors");
        const auto value_count = from.count(8 + 4 + 1, most_things, "number of values");
        for (std::uint64_t i = 0; i < value_count; ++i) {
            const std::string_view key = from.text("value " + std::to_string(i));
            const auto [found, added] = values_.emplace(key, GgufValue());
            if (!added) refuse(std::string(key), "each key once", "it twice", rewrite);
            found->second = from.value(std::string(key));
        }
        read_alignment();
        std::vector<Range> ranges;
        ranges.reserve(static_cast<std::size_t>(tensor_count));
        for (std::uint64_t i = 0; i < tensor_count; ++i) ranges.push_back(read_tensor(from, i));
        const auto bytes = file_.bytes();
        const std::size_t begin =
            std::min<std::size_t>(bytes.size(), static_cast<std::size_t>(padded(from.position())));
        place(ranges, bytes.subspan(begin));
    }

    std::uint64_t padded(std::uint64_t place) const noexcept {
        return (place + step_ - 1) / step_ * step_;
    }

    void read_alignment() {
        const GgufValue* const value = find("general.alignment");
        if (value == nullptr) return;
        const detail::Json found = value->json();
        step_ = found.is_number_unsigned() ? found.get<std::uint64_t>() : 0;
        if (!std::has_single_bit(step_) || step_ > 65536)
            refuse("general.alignment", "a power of two up to 65536", detail::shown(found),
                   rewrite);
    }

    Range read_tensor(GgufCursor& from, std::uint64_t i) const {
        const std::string tensor(from.text("tensor " + std::to_string(i)));
        TensorSpec spec{.name = tensor, .shape = {}};
        const auto rank = from.number<std::uint32_t>(tensor);
        if (rank > 4) refuse(tensor, "at most 4 extents", std::to_string(rank), rewrite);
        // Multiplied as if none were 0, so that no product of some of them overflows later either.
        std::uint64_t largest = 1;
        for (std::uint32_t r = 0; r < rank; ++r) {
            const auto extent = from.number<std::uint64_t>(tensor);
            if (extent > most_elements / largest)
                refuse(tensor, "extents of at most 2^59 elements", std::to_string(extent), rewrite);
            largest *= std::max<std::uint64_t>(extent, 1);
            spec.shape.insert(spec.shape.begin(), static_cast<Index>(extent));
        }
        const auto& elements = elements_of(from.number<std::uint32_t>(tensor), tensor);
        spec.dtype = elements.dtype.value_or(DType::u8);
        const BlockCode* const code = elements.code;
        if (code != nullptr && (spec.shape.size() < 2 || spec.shape.back() % code->weights != 0))
            refuse(tensor,
                   "rows of whole blocks of " + std::to_string(code->weights) + " for " +
                       std::string(code->name),
                   "shape " + shape_text(spec.shape), rewrite);
        const Index size = spec.size();
        const Index bytes =
            code != nullptr ? size / code->weights * code->bytes : size * byte_size(spec.dtype);
        const auto begin = from.number<std::uint64_t>(tensor);
        if (begin % step_ != 0)
            refuse(tensor, "an offset that is a multiple of " + std::to_string(step_),
                   std::to_string(begin), rewrite);
        return {std::move(spec), code, begin, static_cast<std::uint64_t>(bytes)};
    }

    const detail::GgufElements& elements_of(std::uint32_t number, const std::string& tensor) const {
        const auto& known = detail::gguf_elements;
        const auto found = std::ranges::find(known, number, &detail::GgufElements::number);
        if (found == known.end() || !found->dtype)
            refuse(tensor,
                   "F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K, IQ4_NL or IQ4_XS as its type",
                   found == known.end() ? std::to_string(number) : std::string(found->name),
                   "convert the model to one of these types");
        return *found;
    }

    // Tensors must follow one another, with less than an alignment between them and behind the
    // last.
    void place(std::vector<Range>& ranges, std::span<const std::byte> data) {
        std::ranges::sort(ranges, [](const Range& a, const Range& b) {
            return a.begin != b.begin ? a.begin < b.begin : a.bytes < b.bytes;
        });
        std::uint64_t end = 0;
        for (const Range& range : ranges) {
            const std::uint64_t wanted = padded(end);
            if (range.begin != wanted)
                refuse(range.spec.name, "data from byte " + std::to_string(wanted),
                       std::to_string(range.begin) +
                           (range.begin < wanted ? " (tensors overlap)" : " (a hole)"),
                       rewrite);
            if (range.begin > data.size() || range.bytes > data.size() - range.begin)
                refuse(range.spec.name,
                       "data up to byte " + std::to_string(range.begin + range.bytes),
                       std::to_string(data.size()) + " bytes of data", cut_off);
            end = range.begin + range.bytes;
        }
        if (padded(end) < data.size())
            refuse("", std::to_string(end) + " bytes of data", std::to_string(data.size()),
                   "bytes that belong to no tensor: copy or write the file again");
        const auto file_name = std::make_shared<const std::string>(name());
        tensors_.reserve(ranges.size());
        std::set<std::string_view> names;
        for (Range& range : ranges) {
            const auto bytes = data.subspan(static_cast<std::size_t>(range.begin),
                                            static_cast<std::size_t>(range.bytes));
            tensors_.emplace_back(file_name, std::move(range.spec), bytes, range.code);
            const std::string& tensor = tensors_.back().name();
            if (!names.insert(tensor).second) refuse(tensor, "each name once", "it twice", rewrite);
        }
    }

    MappedFile file_;
    std::uint64_t step_ = 32;  // of offsets
    std::map<std::string_view, GgufValue> values_;
    std::vector<StoredTensor> tensors_;
};

}  // namespace HYDRALM_NAMESPACE
