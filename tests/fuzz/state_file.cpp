// State files: any bytes, half of them with magic, version, length and checksum mended, so that
// what lies behind those is reached; what a model takes up it goes on with.
#include "hydralm/io/state_file.hpp"

#include "hydralm/hydralm.hpp"
#include "hydralm/io/model_file.hpp"
#include "mended_state.hpp"
#include "support/temporary_directory.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

using Model =
    HydraLM<HydraConfig{.vocab_size = 3,
                        .d_model = 4,
                        .n_layers = 3,
                        .n_heads = 1,
                        .mlp_multiple_of = 1,
                        .dn_short_conv_kernel = 2,
                        .swa_window = 2,
                        .layer_types = {LayerType::deltanet, LayerType::swa, LayerType::retrieval},
                        .retrieval_chunk_size = 2,
                        .retrieval_top_k = 2}>;

const Model& model() {
    static const Model model = [] {
        Model made;
        initialise(made, 1, InitScheme::fan_in);
        return made;
    }();
    return model;
}

constexpr std::array<token_id, 5> text{0, 2, 1, 1, 2};

const std::array policies{
    BankPolicy{}, BankPolicy{.format = BankFormat::int8, .exact_chunks = 1, .pooled_chunks = 2}};

// The last byte of an input: whether to mend the rest, and the policy of the banks.
constexpr unsigned mend = 1, bounded = 2;

void take(std::string_view input) {
    static MemoryFile file;
    const unsigned choice = input.empty() ? 0 : static_cast<unsigned char>(input.back());
    if (!input.empty()) input.remove_suffix(1);
    file.hold((choice & mend) != 0 ? mended_state(input) : input);
    auto state = load_state(model(), file.path(), policies[(choice & bounded) != 0 ? 1 : 0]);
    model().prefill(text, state);
    model().step(0, state);
}

std::vector<std::string> seeds() {
    const test::TemporaryDirectory directory;
    std::vector<std::string> files;
    for (const unsigned choice : {0U, mend, bounded, mend | bounded}) {
        auto state = model().new_state(1, policies[(choice & bounded) != 0 ? 1 : 0]);
        for (const int prefills : {0, 1, 3}) {
            for (int i = 0; i < prefills; ++i) model().prefill(text, state);
            save_state(model(), state, directory / "s");
            files.push_back(test::read_text(directory / "s") + static_cast<char>(choice));
        }
    }
    return files;
}

}  // namespace

const Target target{take, seeds, 1 << 20};

}  // namespace hydralm::fuzz
