// Gradients of whole models: golden vectors, chunks with carried state, batches, threads, central differences.
#include <algorithm>
#include <vector>

#include "hydralm/training/gradients.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/golden_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Next-token labels of one text; the last token has none.
std::vector<token_id> next_tokens(std::span<const token_id> ids) {
    std::vector<token_id> labels(ids.begin() + 1, ids.end());
    labels.push_back(kernels::ignore_index);
    return labels;
}

// B states in one buffer, zero at the start.
template <class Model>
struct States {
    AlignedBuffer<std::byte> bytes;
    std::vector<Stream> streams;
    explicit States(Index B)
        : bytes(B * Model::state_bytes) {
        for (Index b = 0; b < B; ++b) streams.push_back({bytes.data() + b * Model::state_bytes, 0});
    }
    operator Streams() const { return {streams.data(), static_cast<Index>(streams.size())}; }
    void advance(Index N) {
        for (Stream& stream : streams) stream.position += N;
    }
};

template <class Model>
void check_golden(const std::string& name) {
    using T = typename Model::Scalar;
    constexpr double bound = sizeof(T) == 4 ? 1e-3 : 1e-9;
    const Model model = golden_model<Model>(name);
    const GoldenFile expected = read_golden("model/" + name + "/expected.safetensors");
    const auto ids = expected["input_ids"].as<token_id>();
    const auto labels = next_tokens(ids);
    Gradients<Model> gradients(1, static_cast<Index>(ids.size()));
    gradients.refresh(model);
    States<Model> states(1);
    const auto loss = gradients.add(model, ids, labels, states, 1.0 / static_cast<double>(ids.size() - 1));
    check_close(std::vector{loss.mean()}, expected["loss"].values, bound, name + ", loss");
    gradients.for_each([&](const ParameterInfo& info, auto values) {
        const std::string field = "grad." + std::string(info.name());
        check_close(values, expected[field].values, bound, name + ", " + field);
    });
}

}  // namespace

TEST_CASE("golden gradients hybrid_4l", "[golden]") {
    check_golden<HydraLM<hybrid_4l, float>>("hybrid_4l");
    check_golden<HydraLM<hybrid_4l, double>>("hybrid_4l");
}
TEST_CASE("golden gradients default_schedule_8l", "[golden]") {
    check_golden<HydraLM<default_schedule_8l, float>>("default_schedule_8l");
    check_golden<HydraLM<default_schedule_8l, double>>("default_schedule_8l");
}
TEST_CASE("golden gradients no_qk_norm_2l", "[golden]") {
    check_golden<HydraLM<no_qk_norm_2l, float>>("no_qk_norm_2l");
    check_golden<HydraLM<no_qk_norm_2l, double>>("no_qk_norm_2l");
}
