// GgufValue: one value of a GGUF file's metadata, seen through the map. GgufCursor: what reads
// them.
//
// Numbers are little-endian; a text is a length of 64 bits and its bytes; an array is the type of
// its elements, their number in 64 bits, and they.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"
#include "hydralm/io/json_text.hpp"

namespace HYDRALM_NAMESPACE {

// By the numbers they have in a file.
enum class GgufType : std::uint32_t {
    u8,
    i8,
    u16,
    i16,
    u32,
    i32,
    f32,
    boolean,
    text,
    array,
    u64,
    i64,
    f64
};

// Bytes of one; 0 for those that say their length.
constexpr std::size_t byte_size(GgufType type) noexcept {
    constexpr std::array<std::size_t, 13> sizes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[static_cast<std::size_t>(type)];
}

// Valid as long as the file it comes from.
struct GgufValue {
    GgufType type = GgufType::u8;
    GgufType element = GgufType::u8;   // of an array
    std::uint64_t count = 1;           // of an array's elements
    std::span<const std::byte> bytes;  // of a text, those of its characters

    std::optional<std::string_view> text() const noexcept {
        if (type != GgufType::text) return {};
        return characters();
    }
    bool is_array_of(GgufType wanted) const noexcept {
        return type == GgufType::array && element == wanted;
    }
    // f(text) for each; of an array of texts.
    template <class F>
    void for_each_text(const F& f) const {
        const std::byte* from = bytes.data();
        for (std::uint64_t i = 0; i < count; ++i) {
            std::uint64_t length = 0;
            std::memcpy(&length, from, sizeof length);
            from += sizeof length;
            f(std::string_view(reinterpret_cast<const char*>(from), length));
            from += length;
        }
    }
    // Element i of an array of I32.
    std::int32_t integer_at(std::size_t i) const noexcept {
        return number<std::int32_t>(bytes.data() + i * sizeof(std::int32_t));
    }
    // A number, a truth or a text as JSON, and a list of up to `longest` numbers; of another array,
    // a text that says so.
    static constexpr std::uint64_t longest = 64;
    detail::Json json() const {
        if (type != GgufType::array) return element_json(type, bytes.data());
        if (byte_size(element) == 0 || count > longest)
            return "an array of " + std::to_string(count);
        auto list = detail::Json::array();
        for (std::size_t i = 0; i < count; ++i)
            list.push_back(element_json(element, bytes.data() + i * byte_size(element)));
        return list;
    }

private:
    detail::Json element_json(GgufType kind, const std::byte* from) const {
        switch (kind) {
            case GgufType::u8: return number<std::uint8_t>(from);
            case GgufType::i8: return number<std::int8_t>(from);
            case GgufType::u16: return number<std::uint16_t>(from);
            case GgufType::i16: return number<std::int16_t>(from);
            case GgufType::u32: return number<std::uint32_t>(from);
            case GgufType::i32: return number<std::int32_t>(from);
            case GgufType::u64: return number<std::uint64_t>(from);
            case GgufType::i64: return number<std::int64_t>(from);
            case GgufType::f32: return number<float>(from);
            case GgufType::f64: return number<double>(from);
            case GgufType::boolean: return number<std::uint8_t>(from) != 0;
            case GgufType::text: return characters();
            case GgufType::array: break;
        }
        return {};
    }
    std::string_view characters() const noexcept {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    template <class T>
    static T number(const std::byte* from) noexcept {
        T value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }
};

// Reads a file from its begin on, and never beyond its end.
class GgufCursor {
public:
    GgufCursor(std::string file, std::span<const std::byte> bytes)
        : file_(std::move(file)), bytes_(bytes) {}

    std::size_t position() const noexcept { return position_; }
    std::size_t left() const noexcept { return bytes_.size() - position_; }

    // The next bytes. Throws Error where the file ends before; field: of what they are.
    std::span<const std::byte> take(std::uint64_t count, const std::string& field) {
        if (count > left())
            fail(field, std::to_string(count) + " bytes",
                 std::to_string(left()) + " before the end of the file", cut_off);
        const auto taken = bytes_.subspan(position_, static_cast<std::size_t>(count));
        position_ += static_cast<std::size_t>(count);
        return taken;
    }
    template <class T>
    T number(const std::string& field) {
        T value;
        std::memcpy(&value, take(sizeof value, field).data(), sizeof value);
        return value;
    }
    std::string_view text(const std::string& field) {
        const auto bytes = take(number<std::uint64_t>(field), field);
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    // How many things follow, of at least `least` bytes each: at most `most`.
    std::uint64_t count(std::size_t least, std::uint64_t most, const std::string& field) {
        const auto found = number<std::uint64_t>(field);
        const std::uint64_t room = left() / least;
        if (found > room)
            fail(field, "at most " + std::to_string(room), std::to_string(found), cut_off);
        if (found > most)
            fail(field, "no more than " + std::to_string(most), std::to_string(found),
                 "no model that is read has so many: give another file");
        return found;
    }
    GgufValue value(const std::string& field) {
        GgufValue value{.type = type(field), .bytes = {}};
        if (value.type == GgufType::array) {
            value.element = type(field);
            const std::size_t size = byte_size(value.element);
            if (value.element == GgufType::array)
                fail(field, "an array of numbers or texts", "one of arrays", rewrite);
            value.count = count(size == 0 ? sizeof(std::uint64_t) : size, left(), field);
            const std::size_t begin = position_;
            if (size != 0) take(value.count * size, field);
            else
                for (std::uint64_t i = 0; i < value.count; ++i) text(field);
            value.bytes = bytes_.subspan(begin, position_ - begin);
        } else if (value.type == GgufType::text) {
            const std::string_view characters = text(field);
            value.bytes = std::as_bytes(std::span(characters.data(), characters.size()));
        } else {
            value.bytes = take(byte_size(value.type), field);
        }
        return value;
    }

    [[noreturn]] void fail(std::string field, std::string expected, std::string found,
                           const char* fix) const {
        raise({.file = file_,
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = fix});
    }
    static constexpr const char* cut_off =
        "the file was cut off, or its header is damaged: copy or download it again";
    static constexpr const char* rewrite = "write the file again with the tool that made it";

private:
    GgufType type(const std::string& field) {
        const auto found = number<std::uint32_t>(field);
        if (found > static_cast<std::uint32_t>(GgufType::f64))
            fail(field, "a type of value, 0 to 12", std::to_string(found), rewrite);
        return static_cast<GgufType>(found);
    }

    std::string file_;
    std::span<const std::byte> bytes_;
    std::size_t position_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
