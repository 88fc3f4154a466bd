// A checkpoint: every tensor read in every way, its config, and a model of its weights; and bytes
// that begin as an index does as the index of two shards, "a" and "b".
#include "hydralm/io/checkpoint.hpp"

#include "hydralm/hydralm.hpp"
#include "hydralm/io/model_file.hpp"
#include "support/temporary_directory.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

using Model = HydraLM<HydraConfig{.vocab_size = 3,
                                  .d_model = 4,
                                  .n_layers = 2,
                                  .n_heads = 1,
                                  .mlp_multiple_of = 1,
                                  .dn_short_conv_kernel = 2,
                                  .swa_window = 2,
                                  .swa_every = 2}>;

// A directory with shards and with links to the input as a file and as an index.
struct Place {
    MemoryFile file;
    test::TemporaryDirectory directory;
    std::filesystem::path tensors = directory / "model.safetensors";
    std::filesystem::path index = directory / "model.safetensors.index.json";

    Place() {
        std::filesystem::create_symlink(file.path(), tensors);
        std::filesystem::create_symlink(file.path(), index);
        const std::vector<float> values{1, 2};
        for (const char* shard : {"a", "b"}) {
            SafetensorsWriter writer(directory / shard,
                                     {{shard, {2}}, {"of " + std::string(shard), {1, 1}}});
            writer.write(shard, std::span<const float>(values));
            writer.write("of " + std::string(shard), std::span<const float>(values).first(1));
            writer.commit();
        }
    }
};

Place& place() {
    static Place place;
    return place;
}

template <class T>
void read(const StoredTensor& tensor) {
    const auto values = tensor.values<T>();
    expect(values.size() == tensor.size(), "every element is read");
    AlignedBuffer<T> row(tensor.cols());
    for (Index i = 0; i < std::min<Index>(tensor.rows(), 3); ++i)
        tensor.read_rows(i, MatrixView<T>(row.data(), 1, row.size()));
}

void read_tensors(const Checkpoint& file) {
    Index bytes = 0;
    for (const StoredTensor* const stored : file.tensors()) {
        const StoredTensor& tensor = *stored;
        expect(file.find(tensor.name()) == stored, "a tensor is found by its name");
        bytes += static_cast<Index>(tensor.bytes().size());
        if (is_floating(tensor.dtype())) {
            read<float>(tensor);
            read<double>(tensor);
        } else if (is_index(tensor.dtype())) {
            read<std::int64_t>(tensor);
        }
    }
    expect(bytes <= static_cast<Index>(std::filesystem::file_size(file.name())),
           "tensors lie in the file");
}

// Whether reader takes the input; an Error is an answer too.
template <class Reader>
bool takes(const Reader& reader) {
    try {
        reader();
        return true;
    } catch (const Error&) {
        return false;
    }
}

void take(std::string_view input) {
    place().file.hold(input);
    if (input.starts_with('{') && takes([] { Checkpoint checkpoint(place().index); })) return;
    const Checkpoint checkpoint(place().tensors);
    read_tensors(checkpoint);
    takes([&] { read_config(checkpoint); });
    takes([&] { load<Model>(checkpoint); });
}

std::string tensors(const std::string& header, std::size_t data) {
    std::string text(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(text.data(), &length, sizeof(length));
    return text + header + std::string(data, '?');
}

std::vector<std::string> seeds() {
    Model model;
    initialise(model, 1, InitScheme::fan_in);
    const test::TemporaryDirectory directory;
    save(model, directory / "m");
    return {test::read_text(directory / "m"),
            tensors("{}", 0),
            tensors(R"({"__metadata__":{"format":"pt","hydra_config":"{\"d_model\":64}"}})", 0),
            tensors(R"({"x":{"dtype":"F16","shape":[3,1],"data_offsets":[0,6]},)"
                    R"("y":{"dtype":"BF16","shape":[],"data_offsets":[6,8]}})",
                    8),
            tensors(R"({"i":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},)"
                    R"("j":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},)"
                    R"("k":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[12,13]}})",
                    13),
            tensors(R"({"none":{"dtype":"F64","shape":[0,7],"data_offsets":[0,0]}})", 0),
            R"({"metadata":{},"weight_map":{"a":"a","of a":"a","b":"b","of b":"b"}})"};
}

}  // namespace

const Target target{take, seeds, 1 << 18};

}  // namespace hydralm::fuzz
