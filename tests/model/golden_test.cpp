// The three golden models: logits in every form, greedy decoding, the state behind it; float and
// double.
#include <algorithm>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/golden_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

template <class Model>
void check_golden(const std::string& name) {
    using T = typename Model::Scalar;
    constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-9;
    constexpr Index V = Model::vocab_size();
    const Model model = golden_model<Model>(name);
    const GoldenFile expected = read_golden("model/" + name + "/expected.safetensors");
    const auto ids = expected["input_ids"].as<token_id>();
    const auto N = static_cast<Index>(ids.size());

    const auto check_logits = [&](const std::string& form, auto feed) {
        auto state = model.new_state();
        std::vector<T> logits(ids.size() * V, std::numeric_limits<T>::quiet_NaN());
        feed(state, MatrixView<T>(logits.data(), N, V));
        check_close(logits, expected["logits"].values, bound, name + ", " + form);
        CHECK(state.position() == N);
    };
    check_logits("prefill", [&](auto& state, MatrixView<T> out) { model.logits(ids, state, out); });
    check_logits("recurrent", [&](auto& state, MatrixView<T> out) {
        model.logits(ids, state, out, Form::recurrent);
    });
    for (const Index piece : {1, 3, 7, 16})
        check_logits("pieces of " + std::to_string(piece), [&](auto& state, MatrixView<T> out) {
            for (Index first = 0; first < N; first += piece) {
                const Index n = std::min(piece, N - first);
                model.logits(std::span(ids).subspan(static_cast<std::size_t>(first),
                                                    static_cast<std::size_t>(n)),
                             state, out.middle_rows(first, n));
            }
        });
    check_logits("step", [&](auto& state, MatrixView<T> out) {
        for (Index n = 0; n < N; ++n) {
            const auto logits = model.step(ids[static_cast<std::size_t>(n)], state);
            std::copy(logits.begin(), logits.end(), out.row(n));
        }
    });

    auto state = model.new_state();
    auto logits = model.prefill(ids, state);
    for (const token_id expected_id : expected["greedy_ids"].as<token_id>()) {
        const auto id =
            static_cast<token_id>(std::max_element(logits.begin(), logits.end()) - logits.begin());
        REQUIRE(id == expected_id);
        logits = model.step(id, state);
    }
    check_close(logits, expected["logits_after_decode"].values, bound, name + ", after decoding");
    std::size_t arrays = 0;
    model.export_state(
        state, [&](const std::string& field, auto shape, const std::vector<T>& values) {
            const auto& tensor = expected["state_after_decode." + field];
            CHECK(std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end()));
            check_close(values, tensor.values, bound, name + ", state " + field);
            ++arrays;
        });
    CHECK(arrays == 2 * static_cast<std::size_t>(Model::config.n_layers));
}

}  // namespace

TEST_CASE("golden model hybrid_4l", "[golden]") {
    check_golden<HydraLM<hybrid_4l, float>>("hybrid_4l");
    check_golden<HydraLM<hybrid_4l, double>>("hybrid_4l");
}
TEST_CASE("golden model default_schedule_8l", "[golden]") {
    check_golden<HydraLM<default_schedule_8l, float>>("default_schedule_8l");
    check_golden<HydraLM<default_schedule_8l, double>>("default_schedule_8l");
}
TEST_CASE("golden model no_qk_norm_2l", "[golden]") {
    check_golden<HydraLM<no_qk_norm_2l, float>>("no_qk_norm_2l");
    check_golden<HydraLM<no_qk_norm_2l, double>>("no_qk_norm_2l");
}
