// Writing safetensors: round trips, layout, refusals, and what is left when writing fails.
#include "hydralm/io/safetensors_writer.hpp"

#include <sys/resource.h>

#include <cmath>
#include <csignal>

#include "hydralm/core/random.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// While it lives, no file of this process grows beyond a size: to the writer, a full disk.
class FullDisk {
public:
    explicit FullDisk(rlim_t bytes) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        handler_ = std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{bytes, before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    FullDisk(const FullDisk&) = delete;
    FullDisk& operator=(const FullDisk&) = delete;
    ~FullDisk() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit before_{};
    void (*handler_)(int) = nullptr;
};

template <class T>
std::vector<T> random_values(Index n, std::uint64_t seed) {
    Random random(seed);
    std::vector<T> values(static_cast<std::size_t>(n));
    for (T& x : values) x = static_cast<T>(random.normal());
    return values;
}

template <class T>
std::span<const T> view(const std::vector<T>& values) {
    return values;
}

}  // namespace

TEST_CASE("what is written is read back", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    const auto floats = random_values<float>(30001, 1);
    auto doubles = random_values<double>(20000, 2);
    doubles[0] = std::numeric_limits<double>::infinity();
    doubles[1] = 5e-324;
    doubles[2] = -0.0;
    const std::vector<std::int64_t> integers{-1, 1LL << 62, 7};
    const std::vector<std::int32_t> small{-5};
    const Metadata metadata{{"format", "pt"}, {"note", "quotes \" and \\ and \n and é"}};
    {
        SafetensorsWriter writer(path,
                                 {{"z.float", {30001}},
                                  {"a.double", {100, 200}, DType::f64},
                                  {"empty", {0, 4}},
                                  {"a.bf16", {30001}, DType::bf16},
                                  {"ids", {3, 1}, DType::i64},
                                  {"narrowed", {20000}},
                                  {"one", {}, DType::i64},
                                  {"\"é\n", {1}, DType::f64}},
                                 metadata);
        writer.write("z.float", view(floats).first(10));
        writer.write("z.float", view(floats).subspan(10));
        writer.write("a.double", view(doubles));
        writer.write("a.bf16", view(floats).first(20000));
        writer.write("a.bf16", view(floats).subspan(20000));
        writer.write("ids", view(integers));
        writer.write("narrowed", view(doubles));
        writer.write("one", view(small));
        writer.write("\"é\n", view(floats).first(1));
        CHECK(directory.names().size() == 1);  // the temporary file
        CHECK(!std::filesystem::exists(path));
        writer.commit();
    }
    CHECK(directory.names() == std::vector<std::string>{"m.safetensors"});

    const SafetensorsFile file(path);
    CHECK(file.metadata() == metadata);
    std::vector<std::string> names;
    for (const StoredTensor& tensor : file.tensors()) names.push_back(tensor.name());
    CHECK(names == std::vector<std::string>{"z.float", "a.double", "empty", "a.bf16", "ids",
                                            "narrowed", "one", "\"é\n"});
    const auto same = [&](const std::string& name, const auto& expected, auto rounded) {
        using T = decltype(rounded(expected[0]));
        const auto values = file.tensor(name).values<T>();
        INFO(name);
        CHECK(std::equal(values.begin(), values.end(), expected.begin(), expected.end(),
                         [&](T a, auto b) {
                             const T e = rounded(b);
                             return std::memcmp(&a, &e, sizeof(T)) == 0;
                         }));
    };
    same("z.float", floats, [](float x) { return x; });
    same("a.double", doubles, [](double x) { return x; });
    same("a.bf16", floats, [](float x) { return float_from_bf16(bf16_from(x)); });
    same("ids", integers, [](std::int64_t x) { return x; });
    same("narrowed", doubles, [](double x) { return static_cast<float>(x); });
    same("one", small, [](std::int32_t x) { return std::int64_t{x}; });
    CHECK(file.tensor("a.double").shape() == std::vector<Index>{100, 200});

    // The header is in file order, and the data begin at a multiple of 64.
    const std::string text = read_text(path);
    std::uint64_t length = 0;
    std::memcpy(&length, text.data(), 8);
    CHECK((length + 8) % 64 == 0);
    CHECK(text.find("z.float") < text.find("a.double"));
    CHECK(text.find("a.double") < text.find("a.bf16"));
}

TEST_CASE("half the bf16 error bound holds for random values", "[io]") {
    for (const double x : random_values<double>(10000, 3)) {
        const double error = std::abs(static_cast<double>(float_from_bf16(bf16_from(x))) - x);
        if (error > std::abs(x) * 0x1p-8) FAIL("x " << x << ", error " << error);
    }
}

TEST_CASE("a file without tensors is written", "[io]") {
    const TemporaryDirectory directory;
    SafetensorsWriter(directory / "none", {}).commit();
    SafetensorsWriter(directory / "empty", {{"e", {0}}}, {{"a", "b"}}).commit();
    CHECK(SafetensorsFile(directory / "none").tensors().empty());
    CHECK(SafetensorsFile(directory / "empty").tensors().size() == 1);
    CHECK(SafetensorsFile(directory / "empty").metadata().at("a") == "b");
}

TEST_CASE("tensors are copied byte for byte, without elements too", "[io]") {
    const TemporaryDirectory directory;
    const std::vector<TensorSpec> specs{
        {"first", {0, 3}, DType::f32}, {"w", {2, 3}, DType::bf16}, {"last", {0}, DType::f64}};
    SafetensorsWriter made(directory / "from", specs);
    made.write("w", view(random_values<float>(6, 3)));
    made.commit();
    const SafetensorsFile from(directory / "from");
    std::vector<TensorSpec> copied = specs;
    for (TensorSpec& spec : copied) spec.copied = true;
    SafetensorsWriter writer(directory / "to", copied);
    for (const StoredTensor& tensor : from.tensors()) writer.copy(tensor);
    writer.commit();
    CHECK(read_text(directory / "to") == read_text(directory / "from"));
}

TEST_CASE("misuse of the writer is refused and leaves nothing behind", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m";
    const std::vector<float> three(3);
    const std::vector<std::int64_t> integers(3);
    const auto refused = [&](const auto& action, const std::vector<std::string>& parts) {
        check_error(
            [&] {
                SafetensorsWriter writer(path, {{"a", {2}}, {"i", {2}, DType::i64}});
                action(writer);
            },
            parts);
        CHECK(directory.names().empty());
    };
    refused([&](auto& w) { w.write("i", view(integers)); },
            {"m: i: expected values of a, found values of i", "order"});
    refused([&](auto& w) { w.write("a", view(three)); }, {"a: expected 2 values, found 3"});
    refused([&](auto& w) { w.write("a", view(integers).first(2)); },
            {"a: expected values for F32, found integers"});
    refused(
        [&](auto& w) {
            w.write("a", view(three).first(2));
            w.write("i", view(three).first(2));
        },
        {"i: expected values for I64, found floating-point ones"});
    refused([&](auto& w) { w.commit(); }, {"a: expected 2 values, found 0", "before commit()"});
    refused(
        [&](auto& w) {
            w.write("a", view(three).first(2));
            w.write("i", view(integers).first(1));
            w.commit();
        },
        {"i: expected 2 values, found 1"});
    refused(
        [&](auto& w) {
            w.write("a", view(three).first(2));
            w.write("i", view(integers).first(2));
            w.write("a", view(three).first(1));
        },
        {"a: expected no more values"});

    const auto refused_specs = [&](std::vector<TensorSpec> specs, const Metadata& metadata,
                                   const std::vector<std::string>& parts) {
        check_error([&] { SafetensorsWriter writer(path, specs, metadata); }, parts);
        CHECK(directory.names().empty());
    };
    refused_specs({{"a", {2}}, {"a", {3}}}, {},
                  {"a: expected each name once, found this one twice"});
    refused_specs({{"__metadata__", {2}}}, {}, {"the reserved one"});
    refused_specs({{"a", {2}, DType::f16}}, {},
                  {"a: expected dtype F32, F64, BF16, I64 or a matrix of blocks, found F16"});
    refused_specs({{"a", {-2}}}, {}, {"a: expected extents of at least 0, found [-2]"});
    refused_specs({{"\xff", {2}}}, {}, {"header: expected names and metadata in UTF-8"});
    refused_specs({{"a", {2}}}, {{"k", "\xc3"}}, {"header: expected names and metadata in UTF-8"});
}

TEST_CASE("when the disk is full the old file stays whole and no other is left", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    write_text(path, "the old file");
    const std::vector<float> values(100000);
    check_error(
        [&] {
            SafetensorsWriter writer(path, {{"w", {100000}}});
            const FullDisk full(65536);
            writer.write("w", view(values));
            writer.commit();
        },
        {path.string(), "expected to write the file", "after 65536 bytes", "free some space",
         "nothing was replaced"});
    CHECK(read_text(path) == "the old file");
    CHECK(directory.names() == std::vector<std::string>{"m.safetensors"});
}

TEST_CASE("matrices in blocks are written, and read as they were", "[safetensors][quantised]") {
    const TemporaryDirectory directory;
    const auto path = directory / "blocks.safetensors";
    Random random(1);
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 32}, {5, 33}, {70, 1000}})
        for (const auto format : {weights::Format::q8, weights::Format::q4}) {
            std::vector<float> w(static_cast<std::size_t>(rows * cols));
            for (float& v : w) v = static_cast<float>(random.normal());
            const std::string formats = "{\"w\":\"" + std::string(weights::name(format)) + "\"}";
            const auto write = [&](const std::vector<float>& values, auto... pieces) {
                SafetensorsWriter writer(path, {{"w", {rows, cols}, DType::u8, format}},
                                         {{"hydra_format", formats}});
                std::size_t done = 0;
                for (const std::size_t piece : {static_cast<std::size_t>(pieces)...}) {
                    writer.write("w", std::span(values).subspan(done, piece));
                    done += piece;
                }
                writer.commit();
            };
            write(w, w.size());
            const std::string once = read_text(path);
            const std::size_t row = static_cast<std::size_t>(cols);
            write(w, row, w.size() - row);
            CHECK(read_text(path) == once);
            std::vector<float> kept(w.size());
            std::vector<double> wide(w.size());
            {
                const SafetensorsFile file(path);
                const StoredTensor& tensor = file.tensors()[0];
                CHECK(tensor.format() == format);
                CHECK(tensor.shape() ==
                      std::vector<Index>{rows, ceil_div(cols, 32), block_bytes(format)});
                tensor.expect_shape(std::array{rows, cols});
                tensor.expect_floating();
                tensor.read(std::span(kept));
                tensor.read(std::span(wide));
                CHECK(std::equal(kept.begin(), kept.end(), wide.begin()));
                check_error([&] { tensor.expect_shape(std::array{rows, cols + 32}); },
                            {"w: expected shape"});
                check_error([&] { tensor.read(std::span(kept).first(kept.size() - 1)); }, {"w: "});
                std::vector<float> last(static_cast<std::size_t>(cols + 32));
                tensor.read_rows(rows - 1, MatrixView<float>(last.data(), 1, cols));
                CHECK(std::equal(last.begin(), last.end() - 32, kept.end() - cols));
                MatrixView<float> out(last.data(), 1, cols + 32);
                check_error([&] { tensor.read_rows(0, out); }, {"w: "});
            }
            check_close(kept, w, format == weights::Format::q8 ? 0.01 : 0.2, "blocks");
            write(kept, kept.size());
            CHECK(read_text(path) == once);
        }
}

TEST_CASE("what is not blocks is not taken for them", "[safetensors][quantised]") {
    const TemporaryDirectory directory;
    const auto path = directory / "blocks.safetensors";
    const std::vector<float> w(64);
    const auto write = [&](const TensorSpec& spec, const std::string& formats) {
        SafetensorsWriter writer(path, {spec}, {{"hydra_format", formats}});
        writer.write("w", std::span(w));
        writer.commit();
    };
    const TensorSpec blocks{"w", {2, 32}, DType::u8, weights::Format::q8};
    for (const auto& [formats, message] :
         {std::pair{"{", "hydra_format"},
          {"[]", "hydra_format: expected an object of tensor: format, found []"},
          {"{\"w\":\"q5\"}", "hydra_format.w: expected q8 or q4, found \"q5\""},
          {"{\"w\":8}", "hydra_format.w: expected q8 or q4, found 8"},
          {"{\"w\":\"q4\"}", "w: expected U8 [out, blocks, 18] for q4, found U8 [2, 1, 34]"}}) {
        write(blocks, formats);
        check_error([&] { SafetensorsFile file(path); }, {message});
    }
    write({"w", {2, 32}}, "{\"w\":\"q8\"}");
    check_error([&] { SafetensorsFile file(path); }, {"w: expected U8 [out, blocks, 34]"});
    write(blocks, "{\"v\":\"q8\"}");  // of another shard
    CHECK(SafetensorsFile(path).tensors()[0].format() == weights::Format::scalar);
    check_error([&] { write({"w", {64}, DType::u8, weights::Format::q8}, "{}"); },
                {"w: expected dtype F32, F64, BF16, I64 or a matrix of blocks"});
    check_error([&] { write({"w", {64}, DType::u8}, "{}"); }, {"or a matrix of blocks, found U8"});
    SafetensorsWriter writer(path, {blocks});
    check_error([&] { writer.write("w", std::span(w).first(33)); },
                {"w: expected whole rows of 32, found 33 values"});
}
