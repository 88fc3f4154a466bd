// Reading safetensors: conversions, golden files, and every refusal with its message.
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>

#include "hydralm/io/safetensors.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
    const std::uint64_t length = header.size();
    std::string text(8, '\0');
    std::memcpy(text.data(), &length, 8);
    return text + header + data;
}

// A file with these header and data is refused with a message that has the file's name and parts.
void check_refused(const std::string& header, const std::string& data,
                   std::vector<std::string> parts) {
    const TemporaryDirectory directory;
    write_text(directory / "m.safetensors", file_of(header, data));
    parts.push_back((directory / "m.safetensors").string());
    check_error([&] { SafetensorsFile file(directory / "m.safetensors"); }, parts);
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}";
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// IEEE 754-2008, 3.4, by the formula.
double half_by_definition(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const double fraction = bits & 1023;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
    return sign *
           (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

}  // namespace

TEST_CASE("a float becomes the nearest F16, ties the even one", "[io]") {
    for (std::uint16_t bits = 0; bits < 0x7c00; ++bits) {
        const double low = half_by_definition(bits);
        const double high = bits + 1 == 0x7c00 ? 65536 : half_by_definition(bits + 1);
        const auto middle = static_cast<float>((low + high) / 2);  // exact
        const int even = bits % 2 == 0 ? bits : bits + 1;
        if (f16_from(middle) != even || f16_from(-middle) != (even | 0x8000) ||
            f16_from(std::nextafter(middle, 0.0F)) != bits ||
            f16_from(std::nextafter(middle, 1e30F)) != bits + 1)
            FAIL("F16 around " << middle);
    }
    CHECK(f16_from(1e38F) == 0x7c00);
    CHECK(f16_from(1e-38F) == 0);
}

TEST_CASE("every F16 and BF16 value becomes its float", "[io]") {
    for (std::uint32_t i = 0; i < 65536; ++i) {
        const auto bits = static_cast<std::uint16_t>(i);
        const double expected = half_by_definition(bits);
        const double actual = static_cast<double>(float_from_f16(bits));
        const bool same = std::isnan(expected) ? std::isnan(actual)
                                               : actual == expected &&
                                                     std::signbit(actual) == std::signbit(expected);
        if (!same) FAIL("F16 " << i << ": " << actual << ", expected " << expected);
        const float half = float_from_f16(bits);
        if (std::isnan(expected) ? !std::isnan(float_from_f16(f16_from(half)))
                                 : f16_from(half) != bits)
            FAIL("F16 " << i << " does not come back");

        const float value = float_from_bf16(bits);
        const auto shifted = std::bit_cast<float>(i << 16);
        if (std::isnan(shifted)) {
            if (!std::isnan(value) || !std::isnan(float_from_bf16(bf16_from(value))))
                FAIL("BF16 NaN " << i);
        } else if (value != shifted || bf16_from(value) != bits ||
                   bf16_from(static_cast<double>(value)) != bits) {
            FAIL("BF16 " << i);
        }
    }
}

TEST_CASE("BF16 rounds to nearest, ties to even, once", "[io]") {
    CHECK(bf16_from(1.0F) == 0x3f80);
    CHECK(bf16_from(1.0F + 0x1p-8F) == 0x3f80);      // a tie, to even
    CHECK(bf16_from(1.0F + 3 * 0x1p-8F) == 0x3f82);  // a tie, to even
    CHECK(bf16_from(1.0F + 0x1p-8F + 0x1p-20F) == 0x3f81);
    CHECK(bf16_from(1.0 + 0x1p-8 + 0x1p-40) == 0x3f81);  // through float it would be a tie
    CHECK(bf16_from(-(1.0 + 0x1p-8 + 0x1p-40)) == 0xbf81);
    CHECK(bf16_from(1.0 + 3 * 0x1p-8 - 0x1p-40) == 0x3f81);
    CHECK(bf16_from(0x1.ffp127F) == 0x7f80);  // overflows to infinity
    CHECK(bf16_from(1e300) == 0x7f80);
    CHECK(bf16_from(-1e300) == 0xff80);
    CHECK(bf16_from(0x1p-133) == 0x0001);  // the smallest subnormal
    CHECK(bf16_from(0x1p-134) == 0x0000);  // a tie, to even
    CHECK(bf16_from(1e-300) == 0x0000);
    CHECK(bf16_from(-1e-300) == 0x8000);
    CHECK(std::isnan(
        float_from_bf16(bf16_from(std::bit_cast<float>(0x7f800001U)))));  // not rounded to infinity
}

TEST_CASE("golden files read as an independent reader reads them", "[io][golden]") {
    for (const std::string name :
         {"delta_rule/d32_n64_state", "delta_rule/d128_n33", "model/hybrid_4l/model",
          "model/hybrid_4l/expected", "model/default_schedule_8l/model", "retrieval/c8_k2",
          "mtp/depth2", "muon/newton_schulz"}) {
        const GoldenFile expected = read_golden(name + ".safetensors");
        const SafetensorsFile file(HYDRALM_GOLDEN_DIR "/" + name + ".safetensors");
        REQUIRE(file.tensors().size() == expected.tensors.size());
        CHECK(file.metadata() == expected.metadata);
        for (const auto& [tensor_name, golden] : expected.tensors) {
            const StoredTensor& tensor = file.tensor(tensor_name);
            INFO(name << ": " << tensor_name);
            CHECK(tensor.shape() == golden.shape);
            std::vector<double> values;
            if (is_floating(tensor.dtype())) {
                const auto read = tensor.values<double>();
                values.assign(read.begin(), read.end());
                const auto narrow = tensor.values<float>();
                CHECK(std::equal(narrow.begin(), narrow.end(), golden.values.begin(),
                                 golden.values.end(),
                                 [](float a, double b) { return a == static_cast<float>(b); }));
            } else {
                const auto read = tensor.values<std::int64_t>();
                values.assign(read.begin(), read.end());
            }
            CHECK(values == golden.values);
        }
    }
}

TEST_CASE("every dtype converts, from any alignment, at any length", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    for (const Index n : {1, 3, 63, 64, 65, 1000, 70000}) {
        std::vector<std::uint16_t> halves;
        std::vector<float> floats;
        std::vector<double> doubles;
        std::vector<std::int32_t> integers;
        std::vector<std::int64_t> long_integers;
        for (Index i = 0; i < n; ++i) {
            halves.push_back(static_cast<std::uint16_t>(i * 37 % 31000));
            floats.push_back(0.1F * static_cast<float>(i));
            doubles.push_back(-0.3 * static_cast<double>(i));
            integers.push_back(static_cast<std::int32_t>(-i));
            long_integers.push_back(i * 3);
        }
        // A byte first, so that everything behind it is misaligned.
        std::string header = R"({"pad":)" + entry("U8", "[1]", "[0,1]");
        std::string data = "x";
        const auto add = [&](const std::string& name, const std::string& dtype,
                             const std::string& bytes) {
            const std::string begin = std::to_string(data.size());
            data += bytes;
            header += ",\"" + name + "\":" +
                      entry(dtype, "[" + std::to_string(n) + "]",
                            "[" + begin + "," + std::to_string(data.size()) + "]");
        };
        add("f16", "F16", bytes_of(halves));
        add("bf16", "BF16", bytes_of(halves));
        add("f32", "F32", bytes_of(floats));
        add("f64", "F64", bytes_of(doubles));
        add("i32", "I32", bytes_of(integers));
        add("i64", "I64", bytes_of(long_integers));
        write_text(path, file_of(header + "}", data));

        const SafetensorsFile file(path);
        const auto f16 = file.tensor("f16").values<float>();
        const auto bf16 = file.tensor("bf16").values<double>();
        const auto f32 = file.tensor("f32").values<double>();
        const auto f64 = file.tensor("f64").values<float>();
        const auto i32 = file.tensor("i32").values<std::int64_t>();
        const auto i64 = file.tensor("i64").values<std::int32_t>();
        Index wrong = 0;
        for (Index i = 0; i < n; ++i) {
            const auto j = static_cast<std::size_t>(i);
            wrong += f16[i] == float_from_f16(halves[j]) ? 0 : 1;
            wrong += bf16[i] == static_cast<double>(float_from_bf16(halves[j])) ? 0 : 1;
            wrong += f32[i] == static_cast<double>(floats[j]) ? 0 : 1;
            wrong += f64[i] == static_cast<float>(doubles[j]) ? 0 : 1;
            wrong += i32[i] == integers[j] ? 0 : 1;
            wrong += i64[i] == long_integers[j] ? 0 : 1;
        }
        INFO("n " << n);
        CHECK(wrong == 0);
    }
}

TEST_CASE("rows are read into a matrix with a stride", "[io]") {
    const TemporaryDirectory directory;
    std::vector<float> values;
    for (int i = 0; i < 24; ++i) values.push_back(static_cast<float>(i));
    write_text(directory / "m.safetensors",
               file_of(R"({"w":)" + entry("F32", "[4,3,2]", "[0,96]") + "}", bytes_of(values)));
    const SafetensorsFile file(directory / "m.safetensors");
    const StoredTensor& w = file.tensor("w");
    std::vector<double> out(20, -1.0);
    w.read_rows(1, MatrixView<double>(out.data(), 2, 6, 10));
    CHECK(out == std::vector<double>{6,  7,  8,  9,  10, 11, -1, -1, -1, -1,
                                     12, 13, 14, 15, 16, 17, -1, -1, -1, -1});
    check_error([&] { w.read_rows(3, MatrixView<double>(out.data(), 2, 6, 10)); },
                {"w", "rows [3, 5) of 6", "shape [4, 3, 2]"});
    check_error([&] { w.read_rows(0, MatrixView<double>(out.data(), 2, 5, 10)); },
                {"rows [0, 2) of 5"});
    check_error([&] { w.read_rows(-1, MatrixView<double>(out.data(), 1, 6, 10)); },
                {"rows [-1, 0)"});
}

TEST_CASE("scalars, empty tensors and a header with spaces behind it are files like others",
          "[io]") {
    const TemporaryDirectory directory;
    write_text(directory / "m.safetensors",
               file_of(R"({"empty":)" + entry("F32", "[0,5]", "[0,0]") + R"(,"s":)" +
                           entry("F32", "[]", "[0,4]") + R"(,"none":)" +
                           entry("I64", "[3,0]", "[4,4]") + "}   ",
                       bytes_of(std::vector<float>{2.5F})));
    const SafetensorsFile file(directory / "m.safetensors");
    CHECK(file.tensors().size() == 3);
    CHECK(file.tensor("s").values<float>()[0] == 2.5F);
    CHECK(file.tensor("s").rows() == 1);
    CHECK(file.tensor("empty").values<float>().size() == 0);
    CHECK(file.tensor("none").values<std::int64_t>().size() == 0);
    CHECK(file.find("other") == nullptr);

    write_text(directory / "none.safetensors", file_of("{}", ""));
    CHECK(SafetensorsFile(directory / "none.safetensors").tensors().empty());
}

TEST_CASE("a file that is missing, a directory, a pipe or empty is refused", "[io]") {
    const TemporaryDirectory directory;
    check_error([&] { MappedFile file(directory / "none"); },
                {"none: expected a readable file", "No such file", "check the path"});
    check_error([&] { MappedFile file(directory.path()); },
                {"expected a regular file, found a directory"});
    REQUIRE(::mkfifo((directory / "pipe").c_str(), 0600) == 0);
    check_error([&] { MappedFile file(directory / "pipe"); },
                {"pipe", "found a device, pipe or socket"});
    write_text(directory / "empty", "");
    check_error([&] { SafetensorsFile file(directory / "empty"); }, {"found an empty file"});
}

TEST_CASE("where a limit of the system binds, the message has its name", "[io]") {
    const auto lowered = [](auto resource, rlim_t value, const auto& action) {
        rlimit before{};
        REQUIRE(::getrlimit(resource, &before) == 0);
        const rlimit limit{.rlim_cur = value, .rlim_max = before.rlim_max};
        REQUIRE(::setrlimit(resource, &limit) == 0);
        std::string text;
        try {
            action();
        } catch (const Error& error) {
            text = error.what();
        }
        REQUIRE(::setrlimit(resource, &before) == 0);
        return text;
    };
    const TemporaryDirectory directory;
    const auto path = directory / "f";
    write_text(path, "x");
    const auto map = [&] { const MappedFile file(path); };
    CHECK(lowered(RLIMIT_NOFILE, 0, map) ==
          "hydralm: " + path.string() +
              ": expected a readable file, found Too many open files "
              "(RLIMIT_NOFILE, ulimit -n); raise that limit");
    std::filesystem::resize_file(path, std::uintmax_t{1} << 34);
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const auto size = static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
    CHECK(lowered(RLIMIT_AS, size + (1U << 28), map) ==
          "hydralm: " + path.string() +
              ": expected a file that can be mapped, found Cannot allocate "
              "memory (vm.max_map_count, or RLIMIT_AS, ulimit -v); raise the limit that binds, or "
              "use "
              "fewer or smaller files");
}

TEST_CASE("a header that is not one is refused", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    write_text(path, "1234567");
    check_error([&] { SafetensorsFile file(path); },
                {"at least the 8 bytes", "found 7 bytes", "cut off"});
    write_text(path, std::string("\x40\0\0\0\0\0\0\0{}", 10));
    check_error([&] { SafetensorsFile file(path); },
                {"header: expected 64 bytes, found 2 before the end"});
    write_text(path, "this is text, not a checkpoint");
    check_error([&] { SafetensorsFile file(path); }, {"header: expected at most 100000000 bytes"});

    for (const std::uint64_t length : {100'000'000ULL, 100'000'001ULL, ~0ULL}) {
        std::string text(10, '{');
        std::memcpy(text.data(), &length, 8);
        write_text(path, text);
        const std::string limit = "header: expected at most 100000000 bytes, found ";
        check_error([&] { SafetensorsFile file(path); },
                    {length > 100'000'000 ? limit + std::to_string(length)
                                          : "header: expected 100000000 bytes, found 2 before"});
    }

    check_refused("[]", "", {"JSON that starts with {"});
    check_refused("", "", {"JSON that starts with {"});
    check_refused(R"({"w":)", "", {"header: expected JSON", "parse error"});
    check_refused("{\"\xff\":1}", "", {"header: expected JSON", "UTF-8"});
    check_refused("{} x", "", {"header: expected JSON"});
    const std::string w = entry("F32", "[1]", "[0,4]");
    check_refused(R"({"w":)" + w + R"(,"w":)" + w + "}", "abcd", {"each key once", "\"w\" twice"});
    check_refused(R"({"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", "abcd",
                  {"\"shape\" twice"});
    check_refused(R"({"__metadata__":{"a":"1","a":"2"}})", "", {"\"a\" twice"});
    check_refused(R"({"__metadata__":3})", "",
                  {"__metadata__: expected an object of texts, found 3"});
    check_refused(R"({"__metadata__":{"step":3}})", "",
                  {"__metadata__.step: expected a text, found 3"});
}

TEST_CASE("a header nested without end is refused where a message would show it", "[io]") {
    const std::string deep(1'000'000, '[');
    for (const std::string start : {R"({"w":)", R"({"__metadata__":{"a":)",
                                    R"({"w":{"dtype":"F32","shape":)", R"({"w":{"dtype":)"})
        check_refused(start + deep, "", {"header: expected at most 16 lists and objects"});
    check_refused(R"({"w":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]})", "",
                  {"w: expected an object, found [["});
}

TEST_CASE("a header may have very many tensors", "[io]") {
    const TemporaryDirectory directory;
    std::string header = "{";
    for (int i = 0; i < 50'000; ++i)
        header += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":" + entry("U8", "[0]", "[0,0]");
    write_text(directory / "m", file_of(header + "}", ""));
    const SafetensorsFile file(directory / "m");
    CHECK(file.tensors().size() == 50'000);
    CHECK(file.find("49999") != nullptr);
    CHECK(file.tensors()[0].file() == (directory / "m").string());
    CHECK(&file.tensors()[0].file() == &file.tensors()[49'999].file());  // one name, however long
}

TEST_CASE("an entry that contradicts itself is refused", "[io]") {
    const auto refused = [](const std::string& value, const std::string& data,
                            std::vector<std::string> parts) {
        check_refused(R"({"w":)" + value + "}", data, std::move(parts));
    };
    refused("3", "", {"w: expected an object, found 3"});
    refused(R"({"dtype":"F32","shape":[1]})", "abcd",
            {"w: expected a member \"data_offsets\", found none"});
    refused(R"({"shape":[1],"data_offsets":[0,4]})", "abcd", {"member \"dtype\""});
    refused(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1})", "abcd",
            {"w: expected only", "\"more\""});
    refused(entry("F128", "[1]", "[0,16]"), "abcd",
            {"w: expected a dtype such as F32", "found \"F128\""});
    refused(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})", "abcd",
            {"a dtype such as", "found 7"});
    refused(entry("F32", "[-1]", "[0,4]"), "abcd",
            {"w: expected shape as a list of whole numbers, found [-1]"});
    refused(entry("F32", "[1.0]", "[0,4]"), "abcd", {"shape as a list of whole numbers"});
    refused(entry("F32", "4", "[0,4]"), "abcd", {"shape as a list of whole numbers, found 4"});
    refused(entry("F32", "{\"a\":1}", "[0,4]"), "abcd", {"shape as a list of whole numbers"});
    refused(entry("F32", "[18446744073709551616]", "[0,4]"), "abcd",
            {"shape as a list of whole numbers"});
    refused(entry("F32", "[1]", "[0]"), "abcd", {"data_offsets [begin, end]"});
    refused(entry("F32", "[1]", "[4,0]"), "abcd",
            {"data_offsets [begin, end] with begin <= end, found [4,0]"});
    refused(entry("F32", "[4294967296,4294967296]", "[0,4]"), "abcd", {"less than 2^63 bytes"});
    refused(entry("F32", "[0,4294967296,4294967296]", "[0,0]"), "", {"less than 2^63 bytes"});
    refused(entry("F32", "[18446744073709551615]", "[0,4]"), "abcd", {"less than 2^63 bytes"});
    refused(entry("F32", "[2]", "[0,4]"), "abcd",
            {"w: expected 8 bytes for F32 of shape [2], found 4"});
    refused(entry("F64", "[]", "[0,4]"), "abcd",
            {"w: expected 8 bytes for F64 of shape [], found 4"});
    refused(entry("F32", "[2]", "[0,8]"), "abcd",
            {"w: expected data up to byte 8, found 4 bytes", "cut off"});
    refused(entry("F32", "[1]", "[0,4]"), "abcdef", {"expected 4 bytes of data, found 6"});
    refused(entry("F32", "[1]", "[4,8]"), "abcdefgh",
            {"w: expected data from byte 0, found 4 (a hole)"});
    refused(entry("F32", "[1]", "[18446744073709551611,18446744073709551615]"), "abcd",
            {"w", "a hole"});
}

TEST_CASE("tensors that overlap or leave a hole are refused", "[io]") {
    const std::string a = R"({"a":)" + entry("F32", "[2]", "[0,8]");
    check_refused(a + R"(,"b":)" + entry("F32", "[2]", "[4,12]") + "}", "abcdefghijkl",
                  {"b: expected data from byte 8, found 4 (tensors overlap)"});
    check_refused(a + R"(,"b":)" + entry("F32", "[2]", "[12,20]") + "}", "abcdefghijklabcdefgh",
                  {"b: expected data from byte 8, found 12 (a hole)"});
    check_refused(a + R"(,"b":)" + entry("F32", "[2]", "[0,8]") + "}", "abcdefgh", {"overlap"});
}

TEST_CASE("a tensor of another shape, size or kind is refused by name", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    write_text(path, file_of(R"({"w":)" + entry("F32", "[2,3]", "[0,24]") + R"(,"ids":)" +
                                 entry("I64", "[1]", "[24,32]") + R"(,"u":)" +
                                 entry("U8", "[1]", "[32,33]") + "}",
                             std::string(24, '\0') +
                                 bytes_of(std::vector<std::int64_t>{1LL << 40}) + "x"));
    const SafetensorsFile file(path);
    std::vector<float> six(6);
    std::vector<float> five(5);
    std::vector<std::int32_t> one(1);
    check_error([&] { file.tensor("v"); },
                {path.string() + ": v: expected a tensor of this name, found 3 others"});
    check_error([&] { file.tensor("w").read(std::span(five)); },
                {"w: expected 5 elements, found 6 in shape [2, 3]"});
    check_error([&] { file.tensor("w").expect_shape(std::vector<Index>{3, 2}); },
                {"w: expected shape [3, 2], found [2, 3]"});
    CHECK_NOTHROW(file.tensor("w").expect_shape(std::vector<Index>{2, 3}));
    check_error([&] { file.tensor("ids").values<float>(); },
                {"ids: expected dtype F32, F16, BF16 or F64, found I64"});
    check_error([&] { file.tensor("u").values<std::int64_t>(); },
                {"u: expected dtype I64 or I32, found U8"});
    check_error([&] { file.tensor("w").values<std::int64_t>(); },
                {"w: expected dtype I64 or I32, found F32"});
    check_error([&] { file.tensor("ids").read(std::span(one)); },
                {"ids: expected integers of 32 bits, found larger ones"});
    CHECK_NOTHROW(file.tensor("w").read(std::span(six)));
}

TEST_CASE("a cut-off or changed golden file is refused or reads within its bounds", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    const std::string whole = read_text(HYDRALM_GOLDEN_DIR "/delta_rule/d16_n7.safetensors");
    for (std::size_t size = 0; size < whole.size(); size += size < 2000 ? 13 : 997) {
        write_text(path, whole.substr(0, size));
        check_error([&] { SafetensorsFile file(path); }, {path.string()});
    }
    int refused = 0;
    for (std::size_t i = 0; i < 1256; i += 3) {  // every third byte of the header
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ 0x11);
        write_text(path, changed);
        try {
            const SafetensorsFile file(path);
            for (const StoredTensor& tensor : file.tensors())
                if (is_floating(tensor.dtype())) tensor.values<float>();
        } catch (const Error&) {
            ++refused;
        }
    }
    CHECK(refused > 200);
}
