// A GGUF file: every value said, every tensor read in every way, the model and the tokenizer that
// it describes.
#include "hydralm/io/gguf.hpp"

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/families/published.hpp"
#include "hydralm/io/tokenizer/bpe_tokenizer.hpp"
#include "hydralm/io/tokenizer/tokenizer_gguf.hpp"
#include "support/gguf_writer.hpp"
#include "support/temporary_directory.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

using test::GgufWriter;

// The input under a name that says what it is.
struct Place {
    MemoryFile file;
    test::TemporaryDirectory directory;
    std::filesystem::path path = directory / "m.gguf";

    Place() { std::filesystem::create_symlink(file.path(), path); }
};

template <class T>
void read(const StoredTensor& tensor) {
    const auto values = tensor.values<T>();
    expect(values.size() == tensor.size(), "every element is read");
    AlignedBuffer<T> row(tensor.cols());
    for (Index i = 0; i < std::min<Index>(tensor.rows(), 3); ++i)
        tensor.read_rows(i, MatrixView<T>(row.data(), 1, row.size()));
}

void read_tensors(const GgufFile& file) {
    std::size_t bytes = 0;
    for (const StoredTensor& tensor : file.tensors()) {
        bytes += tensor.bytes().size();
        const bool floating =
            tensor.type_name() != hydralm::name(tensor.dtype()) || is_floating(tensor.dtype());
        if (floating) {
            read<float>(tensor);
            read<double>(tensor);
        } else if (is_index(tensor.dtype())) {
            read<std::int64_t>(tensor);
        }
    }
    expect(bytes <= std::filesystem::file_size(file.name()), "tensors lie in the file");
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

void describe_model(const Checkpoint& checkpoint) {
    const auto published = families::published(checkpoint);
    expect(published.has_value(), "a GGUF file is of a published model");
    const HybridShape shape = published->family->shape(published->config());
    expect(!shape.layers.empty() && shape.layers.size() <= 256, "1 to 256 layers");
    for (const HybridLayer& layer : shape.layers)
        if (const auto* s = layer.delta_net())
            expect(s->value_heads % s->key_heads == 0, "value heads share key heads");
    published->family->tensors(shape, checkpoint);
    if (shape.mtp) published->family->mtp_tensors(shape, checkpoint);
}

void use_tokenizer(const GgufFile& file) {
    const BpeTokenizer tokenizer(tokenizer_from_gguf(file));
    for (const std::string_view text :
         {"", "the  ab\r\n\n 'll 123<end>", "e\xCC\x81\xFF\xF0\x9F"}) {
        const auto ids = tokenizer.encode(text);
        for (const token_id id : ids)
            expect(id >= 0 && id < tokenizer.vocab_size(), "an id is of the vocabulary");
        std::string joined;
        for (const token_id id : ids) joined += tokenizer.text(id);
        expect(joined == tokenizer.decode(ids), "decoding joins what tokens are");
    }
}

void take(std::string_view input) {
    static Place place;
    place.file.hold(input);
    const Checkpoint checkpoint(place.path);
    const GgufFile& file = *checkpoint.gguf();
    read_tensors(file);
    takes([&] { describe_model(checkpoint); });
    takes([&] { use_tokenizer(file); });
}

// A tensor of every type that is read.
std::string every_type() {
    GgufWriter w;
    w.text("general.architecture", "none").i32s("of", {1, 2}).u32("general.alignment", 32);
    for (const auto& elements : detail::gguf_elements) {
        if (!elements.dtype) continue;
        const auto* const code = elements.code;
        const Index cols = code != nullptr ? code->weights : 3;
        const Index bytes = code != nullptr ? code->bytes : cols * byte_size(*elements.dtype);
        w.tensor(std::string(elements.name), {1, static_cast<std::uint64_t>(cols)}, elements.number,
                 std::string(static_cast<std::size_t>(bytes), '?'));
    }
    return w.file();
}

std::string qwen35() {
    GgufWriter w(2);
    w.text("general.architecture", "qwen35");
    const std::pair<const char*, std::uint32_t> sizes[] = {{"block_count", 3},
                                                           {"embedding_length", 8},
                                                           {"feed_forward_length", 8},
                                                           {"attention.head_count", 2},
                                                           {"attention.head_count_kv", 1},
                                                           {"attention.key_length", 8},
                                                           {"attention.value_length", 8},
                                                           {"rope.dimension_count", 4},
                                                           {"ssm.conv_kernel", 4},
                                                           {"ssm.state_size", 4},
                                                           {"ssm.group_count", 2},
                                                           {"ssm.time_step_rank", 4},
                                                           {"ssm.inner_size", 16},
                                                           {"full_attention_interval", 2},
                                                           {"nextn_predict_layers", 1}};
    for (const auto& [key, value] : sizes) w.u32(std::string("qwen35.") + key, value);
    w.number("qwen35.rope.freq_base", GgufType::f32, 1e7F)
        .number("qwen35.attention.layer_norm_rms_epsilon", GgufType::f32, 1e-6F)
        .tensor("token_embd.weight", {2, 8}, 1, std::string(32, '?'));
    return w.file();
}

std::string tokenizer() {
    std::vector<std::string> tokens(256);
    for (std::size_t c = 0; c < detail::spelled_bytes.size(); ++c)
        if (const int byte = detail::spelled_bytes[c]; byte >= 0)
            detail::append_utf8(tokens[static_cast<std::size_t>(byte)], static_cast<char32_t>(c));
    std::vector<std::int32_t> types(256, 1);
    tokens.insert(tokens.end(), {"ab", "<end>", "[PAD]"});
    types.insert(types.end(), {1, 3, 5});
    GgufWriter w;
    w.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen35")
        .texts("tokenizer.ggml.tokens", tokens)
        .i32s("tokenizer.ggml.token_type", types)
        .texts("tokenizer.ggml.merges", {"a b"})
        .number("tokenizer.ggml.add_bos_token", GgufType::boolean, std::uint8_t{1})
        .u32("tokenizer.ggml.bos_token_id", 257);
    return w.file();
}

std::vector<std::string> seeds() { return {every_type(), qwen35(), tokenizer()}; }

}  // namespace

const Target target{take, seeds, 1 << 20};

}  // namespace hydralm::fuzz
