// Reading GGUF: values, tensors, and every refusal with its message.
#include "hydralm/io/gguf.hpp"

#include <vector>

#include "hydralm/io/checkpoint.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/gguf_writer.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

std::string floats(std::size_t count) {
    std::string bytes;
    for (std::size_t i = 0; i < count; ++i)
        bytes += GgufWriter::bytes_of(static_cast<float>(i) * 0.5F);
    return bytes;
}

// Every type of value, and a few tensors of odd shapes.
GgufWriter whole(std::uint32_t version = 3, std::size_t alignment = 32) {
    GgufWriter w(version, alignment);
    w.text("general.architecture", "none")
        .number("a.u8", GgufType::u8, std::uint8_t{200})
        .number("a.i8", GgufType::i8, std::int8_t{-3})
        .number("a.u16", GgufType::u16, std::uint16_t{65535})
        .number("a.i16", GgufType::i16, std::int16_t{-300})
        .u32("a.u32", 4'000'000'000U)
        .number("a.i32", GgufType::i32, -7)
        .number("a.f32", GgufType::f32, 1.5F)
        .number("a.bool", GgufType::boolean, std::uint8_t{1})
        .number("a.u64", GgufType::u64, std::uint64_t{1} << 63)
        .number("a.i64", GgufType::i64, std::int64_t{-1} << 40)
        .number("a.f64", GgufType::f64, -2.25)
        .texts("a.texts", {"one", "", "th ree"})
        .i32s("a.i32s", {5, -6});
    if (alignment != 32) w.u32("general.alignment", static_cast<std::uint32_t>(alignment));
    w.tensor("odd", {3, 5}, 0, floats(15))
        .tensor("vector", {7}, 0, floats(7))
        .tensor("blocks", {1, 64}, 8, std::string(68, '\x01'))
        .tensor("cube", {2, 1, 3}, 0, floats(6))
        .tensor("empty", {0, 4}, 1, "")
        .tensor("one", {}, 30, std::string("\x80\x3f", 2));
    return w;
}

void check_refused(const std::string& file, std::vector<std::string> parts) {
    const TemporaryDirectory directory;
    const auto path = directory / "m.gguf";
    write_text(path, file);
    parts.push_back(path.string());
    check_error([&] { const GgufFile gguf(path); }, parts);
}
void check_refused(const GgufWriter& writer, const std::vector<std::string>& parts) {
    check_refused(writer.file(), parts);
}

}  // namespace

TEST_CASE("a GGUF file has its values and tensors, in every version and alignment", "[io][gguf]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.gguf";
    for (const std::uint32_t version : {2U, 3U})
        for (const std::size_t alignment : {1U, 8U, 32U, 256U}) {
            write_text(path, whole(version, alignment).file());
            const GgufFile file(path);
            CHECK(file.text("general.architecture") == "none");
            const auto json = [&](const char* key) { return file.find(key)->json(); };
            CHECK(json("a.u8") == 200);
            CHECK(json("a.i8") == -3);
            CHECK(json("a.u16") == 65535);
            CHECK(json("a.i16") == -300);
            CHECK(json("a.u32") == 4'000'000'000U);
            CHECK(json("a.i32") == -7);
            CHECK(json("a.f32") == 1.5);
            CHECK(json("a.bool") == true);
            CHECK(json("a.u64") == std::uint64_t{1} << 63);
            CHECK(json("a.i64") == std::int64_t{-1} << 40);
            CHECK(json("a.f64") == -2.25);
            CHECK(json("a.texts") == "an array of 3");
            std::vector<std::string> texts;
            file.array("a.texts", GgufType::text).for_each_text([&](std::string_view text) {
                texts.emplace_back(text);
            });
            CHECK(texts == std::vector<std::string>{"one", "", "th ree"});
            CHECK(file.array("a.i32s", GgufType::i32).integer_at(1) == -6);
            CHECK(file.find("a.none") == nullptr);
            check_error([&] { file.text("a.none"); }, {"a.none: expected a text, found none"});
            check_error([&] { file.text("a.u8"); }, {"a.u8: expected a text, found 200"});
            check_error([&] { file.array("a.i32s", GgufType::text); },
                        {"a.i32s: expected an array of texts, found [5,-6]"});

            const Checkpoint checkpoint(path);
            CHECK(checkpoint.gguf() != nullptr);
            CHECK(checkpoint.tensors().size() == 6);
            const auto shape = [&](const char* name) { return checkpoint.tensor(name).shape(); };
            CHECK(shape("odd") == std::vector<Index>{3, 5});
            CHECK(shape("cube") == std::vector<Index>{2, 1, 3});
            CHECK(shape("empty") == std::vector<Index>{0, 4});
            CHECK(shape("one").empty());
            const auto odd = checkpoint.tensor("odd").values<float>();
            for (Index i = 0; i < 15; ++i) CHECK(odd[i] == 0.5F * static_cast<float>(i));
            CHECK(checkpoint.tensor("one").values<double>()[0] == 1.0);
            CHECK(checkpoint.tensor("blocks").values<float>()[63] == float_from_f16(0x0101));
            CHECK(checkpoint.tensor("blocks").kept() == weights::Format::q8);
            CHECK(checkpoint.tensor("empty").values<float>().size() == 0);
        }
}

TEST_CASE("a GGUF matrix of nothing is read at once, however many rows it has", "[io][gguf]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.gguf";
    for (const std::uint32_t type : {0U, 8U, 12U}) {  // F32, Q8_0, Q4_K
        write_text(path, GgufWriter().tensor("w", {std::uint64_t{1} << 59, 0}, type, "").file());
        const GgufFile file(path);
        CHECK(file.tensors()[0].shape() == std::vector<Index>{Index{1} << 59, 0});
        CHECK(file.tensors()[0].values<float>().size() == 0);
    }
}

TEST_CASE("a GGUF file is known by its first bytes or by its name", "[io][gguf]") {
    const TemporaryDirectory directory;
    write_text(directory / "blob", whole().file());
    CHECK(is_gguf(directory / "blob"));
    CHECK(Checkpoint(directory / "blob").gguf() != nullptr);
    write_text(directory / "GG", "GG");
    CHECK_FALSE(is_gguf(directory / "GG"));
    CHECK_FALSE(is_gguf(directory.path()));
    CHECK_FALSE(is_gguf(directory / "none"));
    std::filesystem::create_directory(directory / "folder.gguf");
    CHECK_FALSE(is_gguf(directory / "folder.gguf"));
    check_error([&] { const Checkpoint checkpoint(directory / "none.gguf"); }, {"none.gguf"});
    check_refused("GGML" + whole().file().substr(4), {"magic: expected GGUF"});
}

TEST_CASE("a GGUF file that is cut off anywhere is refused", "[io][gguf]") {
    const std::string file = whole().file();
    const TemporaryDirectory directory;
    for (std::size_t n = 1; n < file.size(); ++n) {
        write_text(directory / "m.gguf", file.substr(0, n));
        check_error([&] { const GgufFile gguf(directory / "m.gguf"); }, {"m.gguf: "});
    }
}

TEST_CASE("a GGUF header that lies is refused by name", "[io][gguf]") {
    const GgufWriter w = whole();
    for (const std::uint32_t version : {0U, 1U, 4U, 0x03000000U})
        check_refused(whole(version), {"version: expected 2 or 3, found " + std::to_string(version),
                                       "little-endian"});
    check_refused(w.file(1'000'000, 14), {"number of tensors: expected at most"});
    check_refused(w.file(std::uint64_t{1} << 63, 14), {"number of tensors: expected at most"});
    check_refused(w.file(6, 1'000'000), {"number of values: expected at most"});
    check_refused(w.file(70'000, 14) + std::string(70'000 * 24, '\0'),
                  {"number of tensors: expected no more than 65536, found 70000", "another file"});
    check_refused(w.file(6, 13), {"m.gguf: "});
    check_refused(w.file(6, 15), {"m.gguf: "});
    check_refused(w.file(7, 14), {"m.gguf: "});
    check_refused(w.file(5, 14), {"m.gguf: "});

    const auto raw = [](const char* key, std::uint32_t type, const std::string& bytes) {
        return GgufWriter().raw(key, type, bytes);
    };
    const auto u32 = [](std::uint32_t value) { return GgufWriter::bytes_of(value); };
    const auto u64 = [](std::uint64_t value) { return GgufWriter::bytes_of(value); };
    check_refused(raw("k", 13, "?"), {"k: expected a type of value, 0 to 12, found 13"});
    check_refused(raw("k", 8, u64(1'000'000) + "?"), {"k: expected 1000000 bytes, found"});
    check_refused(raw("k", 9, u32(13) + u64(1)), {"k: expected a type of value"});
    check_refused(raw("k", 9, u32(9) + u64(1)), {"k: expected an array of numbers or texts"});
    check_refused(raw("k", 9, u32(10) + u64(std::uint64_t{1} << 61)), {"k: expected at most"});
    check_refused(raw("k", 9, u32(8) + u64(2) + u64(0)), {"k: expected"});
    check_refused(GgufWriter().u32("k", 1).u32("k", 2), {"k: expected each key once"});
    check_refused(raw("general.alignment", 4, u32(48)),
                  {"general.alignment: expected a power of two up to 65536, found 48"});
    check_refused(raw("general.alignment", 4, u32(0)), {"general.alignment"});
    check_refused(raw("general.alignment", 4, u32(131072)), {"general.alignment"});
    check_refused(GgufWriter().text("general.alignment", "32"), {"general.alignment"});
}

TEST_CASE("a GGUF tensor that does not fit is refused by name", "[io][gguf]") {
    const std::string data = floats(64);
    const auto tensor = [&](const std::vector<std::uint64_t>& shape, std::uint32_t type,
                            std::uint64_t offset = 0) {
        return GgufWriter().tensor_at("w", shape, type, offset, data);
    };
    check_refused(tensor({1, 1, 1, 1, 64}, 0), {"w: expected at most 4 extents, found 5"});
    check_refused(tensor({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0),
                  {"w: expected extents of at most 2^59 elements"});
    check_refused(tensor({0, std::uint64_t{1} << 63}, 0), {"w: expected extents"});
    check_refused(tensor({std::uint64_t{1} << 59}, 28), {"w: expected data up to byte"});
    check_refused(tensor({65}, 0), {"w: expected data up to byte 260, found 256 bytes"});
    check_refused(tensor({48}, 0), {"expected 192 bytes of data, found 256"});
    check_refused(tensor({64}, 0, 8), {"w: expected an offset that is a multiple of 32, found 8"});
    check_refused(tensor({64}, 0, 32), {"w: expected data from byte 0, found 32 (a hole)"});
    check_refused(tensor({64}, 0, ~std::uint64_t{31}), {"w: expected data from byte 0"});
    check_refused(tensor({2, 48}, 8), {"w: expected rows of whole blocks of 32 for Q8_0, found "
                                       "shape [2, 48]"});
    check_refused(tensor({256, 32}, 12), {"w: expected rows of whole blocks of 256 for Q4_K"});
    check_refused(tensor({}, 2), {"w: expected rows of whole blocks"});
    check_refused(tensor({64}, 8), {"w: expected rows of whole blocks of 32 for Q8_0, found "
                                    "shape [64]"});
    check_refused(tensor({64}, 10), {"w: expected F32, F16, BF16", "found Q2_K"});
    check_refused(tensor({64}, 29), {"found IQ1_M"});
    check_refused(tensor({64}, 77), {"found 77"});

    GgufWriter two = tensor({32}, 0);
    two.tensor_at("v", {32}, 0, 96, "");
    check_refused(two, {"v: expected data from byte 128, found 96 (tensors overlap)"});
    GgufWriter same = tensor({32}, 0);
    same.tensor_at("w", {32}, 0, 128, "");
    check_refused(same, {"w: expected each name once"});
}
