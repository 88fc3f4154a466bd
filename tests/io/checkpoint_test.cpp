// Checkpoints in one file, in shards and in directories, and the check against what a model
// expects.
#include "hydralm/io/checkpoint.hpp"

#include "hydralm/io/safetensors_writer.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

void write_tensors(const std::filesystem::path& path, const std::vector<TensorSpec>& specs,
                   const Metadata& metadata = {}) {
    SafetensorsWriter writer(path, specs, metadata);
    float next = 1;
    for (const TensorSpec& spec : specs) {
        if (!is_floating(spec.dtype)) {
            const std::vector<std::int64_t> ids(static_cast<std::size_t>(spec.size()));
            writer.write(spec.name, std::span<const std::int64_t>(ids));
            continue;
        }
        std::vector<float> values(static_cast<std::size_t>(spec.size()));
        for (float& x : values) x = next++;
        writer.write(spec.name, std::span<const float>(values));
    }
    writer.commit();
}

constexpr const char* index_name = "model.safetensors.index.json";

}  // namespace

TEST_CASE("a file, and a directory that holds it, are the same checkpoint", "[io]") {
    const TemporaryDirectory directory;
    write_tensors(directory / "model.safetensors", {{"b", {2}}, {"a", {1, 2}}}, {{"format", "pt"}});
    for (const auto& path : {directory / "model.safetensors", directory.path()}) {
        const Checkpoint checkpoint(path);
        CHECK(checkpoint.path() == directory / "model.safetensors");
        REQUIRE(checkpoint.tensors().size() == 2);
        CHECK(checkpoint.tensors()[0]->name() == "b");
        CHECK(checkpoint.tensor("a").values<double>()[1] == 4.0);
        CHECK(checkpoint.metadata().at("format") == "pt");
        CHECK(checkpoint.find("c") == nullptr);
        check_error([&] { checkpoint.tensor("c"); }, {"c: expected a tensor of this name"});
    }
}

TEST_CASE("a directory without a checkpoint, or with two, is refused", "[io]") {
    const TemporaryDirectory directory;
    check_error([&] { Checkpoint checkpoint(directory.path()); },
                {"model.safetensors", "found neither"});
    write_tensors(directory / "model.safetensors", {{"a", {1}}});
    write_text(directory / index_name, "{}");
    check_error([&] { Checkpoint checkpoint(directory.path()); }, {"found both"});
    check_error([&] { Checkpoint checkpoint(directory / "none"); },
                {"none: expected a readable file"});
}

TEST_CASE("shards are one checkpoint", "[io]") {
    const TemporaryDirectory directory;
    write_tensors(directory / "m-1.safetensors", {{"a", {2}}, {"b", {1}}}, {{"format", "pt"}});
    write_tensors(directory / "m-2.safetensors", {{"c", {3}}}, {{"format", "pt"}, {"more", "x"}});
    write_text(directory / index_name,
               R"({"metadata":{"total_size":24},"weight_map":
                   {"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}})");
    for (const auto& path : {directory / index_name, directory.path()}) {
        const Checkpoint checkpoint(path);
        REQUIRE(checkpoint.tensors().size() == 3);
        CHECK(checkpoint.tensor("b").values<float>()[0] == 3.0F);
        CHECK(checkpoint.tensor("c").values<float>()[2] == 3.0F);
        CHECK(checkpoint.tensor("c").file() == (directory / "m-2.safetensors").string());
        CHECK(checkpoint.metadata() == Metadata{{"format", "pt"}, {"more", "x"}});
        CHECK_NOTHROW(
            checkpoint.expect(std::vector<TensorSpec>{{"c", {3}}, {"b", {1}}, {"a", {2}}}));
    }
}

TEST_CASE("an index and its shards that do not fit are refused", "[io]") {
    const TemporaryDirectory directory;
    write_tensors(directory / "1", {{"a", {2}}, {"b", {1}}}, {{"step", "1"}});
    write_tensors(directory / "2", {{"b", {1}}, {"c", {3}}}, {{"step", "2"}});
    write_tensors(directory / "3", {{"c", {3}}}, {{"step", "2"}});
    const auto refused = [&](const std::string& index, const std::vector<std::string>& parts) {
        write_text(directory / index_name, index);
        check_error([&] { Checkpoint checkpoint(directory.path()); }, parts);
    };
    refused("{", {index_name, "expected JSON"});
    refused("[]", {"weight_map: expected an object"});
    refused("{}", {"weight_map: expected an object"});
    refused(R"({"weight_map":[]})", {"weight_map: expected an object"});
    refused(R"({"weight_map":{"a":"1","a":"1"}})", {"each key once"});
    refused(R"({"weight_map":{"a":1}})",
            {"a: expected the name of a file beside the index, found 1"});
    refused(R"({"weight_map":{"a":""}})", {"a: expected the name of a file beside"});
    refused(R"({"weight_map":{"a":"../1"}})",
            {"a: expected the name of a file beside the index, found \"../1\""});
    refused(R"({"weight_map":{"a":".."}})", {"a: expected the name of a file beside"});
    refused(R"({"weight_map":{"a":"1\u0000"}})", {"a: expected the name of a file beside"});
    refused(R"({"weight_map":{"a":"1","b":"1","c":"4"}})",
            {index_name, "4: expected every shard beside the index, found no such file",
             "missing shard"});
    refused(R"({"weight_map":{"a":"1","b":"1","d":"1"}})",
            {"d: expected a tensor of 1, found none"});
    refused(R"({"weight_map":{"a":"1"}})", {"b: expected a line in weight_map"});
    refused(R"({"weight_map":{"a":"1","b":"1","c":"2"}})",
            {"b: expected one shard that holds it, found two"});
    refused(R"({"weight_map":{"a":"1","b":"1","c":"3"}})",
            {"__metadata__.step: expected the same text in every shard"});
}

TEST_CASE("missing, unknown, misshaped and non-numeric tensors are refused by name", "[io]") {
    const TemporaryDirectory directory;
    write_tensors(directory / "m",
                  {{"a", {2, 3}}, {"b", {1}, DType::bf16}, {"ids", {1}, DType::i64}});
    const Checkpoint checkpoint(directory / "m");
    const auto refused = [&](std::vector<TensorSpec> specs, const std::vector<std::string>& parts) {
        check_error([&] { checkpoint.expect(specs); }, parts);
    };
    refused({{"a", {2, 3}}, {"b", {1}}, {"ids", {1}}, {"c", {1}}},
            {"c: expected every tensor", "1 tensor (c) missing"});
    refused({{"a", {2, 3}}, {"v", {}}, {"w", {}}, {"x", {}}, {"y", {}}, {"z", {}}},
            {"v: ", "5 tensors (v, w, x, y, ...) missing and 2 tensors (b, ids) unknown"});
    refused({{"a", {2, 3}}},
            {"b: expected only tensors of the configuration, found 2 tensors (b, ids) unknown"});
    refused({{"a", {3, 2}}, {"b", {1}}, {"ids", {1}}}, {"a: expected shape [3, 2], found [2, 3]"});
    refused({{"a", {2, 3, 1}}, {"b", {1}}, {"ids", {1}}},
            {"a: expected shape [2, 3, 1], found [2, 3]"});
    refused({{"a", {2, 3}}, {"b", {1}}, {"ids", {1}}},
            {"ids: expected dtype F32, F16, BF16 or F64, found I64"});
}
