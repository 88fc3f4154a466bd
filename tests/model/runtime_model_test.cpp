// Models whose shape is read at run time: bit for bit those whose shape is a type.
#include "hydralm/model/runtime_model.hpp"

#include "hydralm/inference/batch_decoder.hpp"
#include "hydralm/inference/generate.hpp"
#include "hydralm/model/kernels_in_use.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/golden_model.hpp"
#include "support/runtime_blocks.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// The weights of a model whose shape is a type, in one whose is not.
template <class Model>
RuntimeModel<typename Model::Scalar> runtime(const Model& model) {
    using T = typename Model::Scalar;
    RuntimeModel<T> made(Model::config, EitherKernels{});
    std::vector<std::vector<T>> tensors;
    model.get_parameters([&](const ParameterInfo&, std::span<const T> values) {
        tensors.emplace_back(values.begin(), values.end());
    });
    auto next = tensors.begin();
    made.set_parameters([&](const ParameterInfo& info, std::span<T> values) {
        REQUIRE(next->size() == values.size());
        INFO(info.name());
        std::copy(next->begin(), next->end(), values.begin());
        ++next;
    });
    return made;
}

template <class Model>
void check_same(const Model& model, Index N, const BankPolicy& policy = {}) {
    using T = typename Model::Scalar;
    const auto erased = runtime(model);
    CHECK(erased.parameter_count == Model::parameter_count);
    CHECK(erased.weight_bytes == Model::weight_bytes);
    CHECK(erased.state_bytes == Model::state_bytes);
    REQUIRE(erased.parameters.size() == Model::parameters.size());
    for (std::size_t i = 0; i < erased.parameters.size(); ++i)
        CHECK(erased.parameters[i].name() == Model::parameters[i].name());

    const Index V = Model::vocab_size();
    const auto tokens = random_tokens(N, static_cast<int>(V), 3);
    auto a = model.new_state(256, policy);
    auto b = erased.new_state(256, policy);
    CHECK(b.rests() == (policy.state == StateFormat::int16));
    const auto whole = logits_in_pieces(model, a, tokens, {7, N / 2});
    std::vector<T> out(whole.size(), std::numeric_limits<T>::quiet_NaN());
    Index first = 0;
    for (const Index end : {Index{7}, N / 2, N}) {
        erased.logits(slice(tokens, first, end - first), b,
                      MatrixView<T>(out.data() + first * V, end - first, V));
        first = end;
    }
    CHECK(same_bits(whole, out));
    CHECK(same_state(a, b));
    for (const token_id token : random_tokens(5, static_cast<int>(V), 4)) {
        const auto x = model.step(token, a);
        const auto y = erased.step(token, b);
        CHECK(same_bits(std::vector<T>(x.begin(), x.end()), std::vector<T>(y.begin(), y.end())));
    }
    std::vector<std::string> names, others;
    std::vector<std::vector<T>> states, other_states;
    model.export_state(a, [&](const std::string& name, const auto&, const std::vector<T>& v) {
        names.push_back(name), states.push_back(v);
    });
    erased.export_state(b, [&](const std::string& name, const auto&, const std::vector<T>& v) {
        others.push_back(name), other_states.push_back(v);
    });
    CHECK(names == others);
    for (std::size_t i = 0; i < states.size(); ++i) CHECK(same_bits(states[i], other_states[i]));
}

}  // namespace

TEST_CASE("A run-time model computes the bits of the specialised one", "[runtime_model]") {
    check_same(random_model<HydraLM<small_hybrid, float>>(1), 70);
    check_same(random_model<HydraLM<small_remembering, float>>(2), 70);
    check_same(random_model<HydraLM<small_remembering, double>>(3), 70);
}

TEST_CASE("A run-time model's resting states have the bits of the specialised one's",
          "[runtime_model][resting]") {
    const BankPolicy resting{.state = StateFormat::int16};
    check_same(random_model<HydraLM<small_remembering, float>>(2), 70, resting);
    check_same(random_model<HydraLM<small_hybrid, double>>(3), 70, resting);
}

TEST_CASE("A run-time model reproduces the golden models", "[runtime_model]") {
    check_same(golden_model<HydraLM<hybrid_4l, double>>("hybrid_4l"), 40);
    check_same(golden_model<HydraLM<default_schedule_8l, float>>("default_schedule_8l"), 40);
    check_same(golden_model<HydraLM<no_qk_norm_2l, double>>("no_qk_norm_2l"), 40);
}

namespace {

// Of a model of every mixer; sizes: of its heads and chunks.
template <class Model>
void check_kernels(const Model& model, const std::vector<std::string>& sizes) {
    const auto all = kernels_in_use(model);
    std::vector<std::string> operations;
    for (const auto& kernel : all) operations.push_back(kernel.operation);
    CHECK(operations == std::vector<std::string>{"heads", "chunks", "matmul", "rms_norm", "rotary",
                                                 "short_conv", "swiglu", "delta_rule",
                                                 "window_attention", "full_attention",
                                                 "retrieval"});
    CHECK(all[0].form == sizes[0]);
    CHECK(all[1].form == sizes[1]);
    CHECK(all[2].form == "packed panels, matrices in float");
}

// Every mixer, with heads and chunks that no kernel of the lists has.
constexpr HydraConfig between{
    .vocab_size = 53,
    .d_model = 24,
    .n_layers = 4,
    .n_heads = 4,
    .head_dim = 8,
    .n_kv_heads = 2,
    .mlp_multiple_of = 5,
    .swa_window = 24,
    .layer_types = {LayerType::full, LayerType::retrieval, LayerType::deltanet, LayerType::swa},
    .retrieval_chunk_size = 10,
    .retrieval_top_k = 64};

}  // namespace

TEST_CASE("Sizes between those of the lists: the same to rounding", "[runtime_model]") {
    using Model = HydraLM<between, double>;
    const auto model = random_model<Model>(6);
    const auto erased = runtime(model);
    CHECK(erased.kernel_head_dim == 12);
    CHECK(erased.kernel_chunk == 13);
    check_kernels(erased,
                  {"of 8: generic, by kernels for 12", "of 10: generic, by kernels for 13"});
    check_kernels(model, {"of 8", "of 10"});
    CHECK(erased.parameter_count == Model::parameter_count);
    for (std::size_t i = 0; i < erased.parameters.size(); ++i) {
        CHECK(erased.parameters[i].name() == Model::parameters[i].name());
        CHECK(std::ranges::equal(erased.parameters[i].shape(), Model::parameters[i].shape()));
    }
    const auto values = [](const auto& any) {
        std::vector<double> all;
        any.get_parameters([&](const ParameterInfo&, std::span<const double> v) {
            all.insert(all.end(), v.begin(), v.end());
        });
        return all;
    };
    CHECK(same_bits(values(erased), values(model)));

    const auto tokens = random_tokens(70, 53, 6);
    auto a = model.new_state();
    auto b = erased.new_state();
    auto c = erased.new_state();
    const auto expected = logits_in_pieces(model, a, tokens, {7, 33});
    for (auto* state : {&b, &c}) {
        std::vector<double> found(expected.size(), std::numeric_limits<double>::quiet_NaN());
        erased.logits(tokens, *state, {found.data(), 70, 53},
                      state == &b ? Form::parallel : Form::recurrent);
        check_close(found, expected, 1e-10, "logits");
    }
    std::vector<std::pair<std::string, std::vector<double>>> states;
    model.export_state(a, [&](const std::string& name, const auto&, const std::vector<double>& v) {
        states.emplace_back(name, v);
    });
    auto next = states.begin();
    erased.export_state(b, [&](const std::string& name, std::span<const Index> shape,
                               const std::vector<double>& v) {
        Index size = 1;
        for (const Index extent : shape) size *= extent;
        CHECK(size == static_cast<Index>(v.size()));
        REQUIRE(name == next->first);
        check_close(v, next->second, 1e-10, name);
        ++next;
    });
}

TEST_CASE("A head in a wider kernel rests with the error of its own rows",
          "[runtime_model][resting]") {
    using Model = HydraLM<between, double>;
    const auto model = random_model<Model>(7);
    const auto erased = runtime(model);
    const BankPolicy resting{.state = StateFormat::int16};
    const auto tokens = random_tokens(70, 53, 7);
    auto a = model.new_state(8, resting);
    auto b = erased.new_state(8, resting);
    REQUIRE(b.rests());
    CHECK(b.size() < erased.new_state(8).size());
    const auto expected = logits_in_pieces(model, a, tokens);
    std::vector<double> found(expected.size(), std::numeric_limits<double>::quiet_NaN());
    erased.logits(tokens, b, {found.data(), 70, 53});
    // Numbers that differ in their last bits may be rounded to neighbours in int16.
    check_close(found, expected, 3e-4, "logits");
}

TEST_CASE("A run-time model decodes in batches and one by one", "[runtime_model]") {
    const auto model = runtime(random_model<HydraLM<small_hybrid, float>>(4));
    const auto prompt = random_tokens(9, 53, 4);
    auto state = model.new_state();
    Sampler<float> greedy(53, {.temperature = 0.0});
    std::vector<token_id> text;
    const auto first = model.prefill(prompt, state);
    const std::vector<float> kept(first.begin(), first.end());
    generate(model, state, kept, greedy, 6,
             [&](token_id token) { return text.push_back(token), true; });
    CHECK(text.size() == 6);

    BatchDecoder<RuntimeModel<float>> batch(model, 2);
    auto logits = std::vector<float>(kept);
    for (Index b = 0; b < 2; ++b) model.prefill(prompt, batch.state(b));
    for (const token_id token : text) {
        CHECK(argmax(std::span<const float>(logits)) == token);
        const auto rows = batch.step(std::vector{token, token});
        logits.assign(rows.row(1), rows.row(1) + 53);
    }
}

TEST_CASE("A run-time model refuses by field what it has no kernel for", "[runtime_model]") {
    HydraConfig config = small_hybrid;
    config.head_dim = 20;
    check_error([&] { RuntimeModel<float>(config, EitherKernels{}); },
                {"head_dim: expected at most 16, found 20"});
    config = small_remembering;
    config.retrieval_chunk_size = 14;
    check_error([&] { RuntimeModel<float>(config, EitherKernels{}); },
                {"retrieval_chunk_size: expected at most 13, found 14"});
    config = small_hybrid;
    config.head_dim = 12;
    config.n_heads = 1 << 24;
    config.swa_window = 1 << 24;
    check_error([&] { RuntimeModel<float>(config, EitherKernels{}); }, {"at most 2^48 numbers"});
    config.swa_window = 64;
    config.mlp_mult = 0.5;
    config.d_model = 1 << 24;
    check_error([&] { RuntimeModel<float>(config, EitherKernels{}); }, {"at most 2^48 parameters"});
    config = small_hybrid;
    config.swa_window = 0;
    check_error([&] { RuntimeModel<float>(config, EitherKernels{}); }, {"swa_window: found 0"});
}

TEST_CASE("A run-time model refuses the state of another config", "[runtime_model]") {
    HydraConfig config = small_hybrid;
    const RuntimeModel<float> model(config, EitherKernels{});
    auto state = model.new_state();
    const auto tokens = random_tokens(3, 53, 5);
    const auto refuses = [&](const HydraConfig& other) {
        const RuntimeModel<float> another(other, EitherKernels{});
        check_error([&] { another.prefill(tokens, state); },
                    {"state: expected one of this model, found one of a model of another config"});
        std::vector<float> out(static_cast<std::size_t>(3 * other.vocab_size));
        CHECK_THROWS_AS(another.logits(tokens, state, {out.data(), 3, other.vocab_size}), Error);
        auto own = another.new_state();
        own = state;  // as a whole: its scratch memory too
        CHECK_NOTHROW(model.prefill(tokens, own));
        CHECK_THROWS_AS(another.prefill(tokens, own), Error);
    };
    config.vocab_size = 4000;
    refuses(config);
    config = small_hybrid;
    config.mlp_mult = 40.0;
    refuses(config);
    CHECK_NOTHROW(RuntimeModel<float>(small_hybrid, EitherKernels{}).prefill(tokens, state));
}

TEST_CASE("A run-time model that was moved from is refused", "[runtime_model]") {
    auto model = runtime(random_model<HydraLM<small_hybrid, float>>(5));
    auto state = model.new_state();
    const auto taken = std::move(model);
    const auto tokens = random_tokens(3, 53, 5);
    CHECK_NOTHROW(taken.prefill(tokens, state));
    CHECK_THROWS_AS(model.prefill(tokens, state), Error);  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("Kernels in use are those of the layers that a model has", "[runtime_model]") {
    const auto operations = [](std::initializer_list<LayerType> layers) {
        HydraConfig config = between;
        config.layer_types = layers;
        config.n_layers = static_cast<int>(layers.size());
        std::string found;
        for (const auto& kernel : kernels_in_use(
                 RuntimeModel<float>(config, EitherKernels{}, format_choice<float>(weights::Q8{}))))
            found += kernel.operation == "matmul" ? kernel.form + "; " : kernel.operation + " ";
        return found;
    };
    const std::string matmul = "heads packed panels, matrices in q8, blocks by " +
                               std::string(simd::byte_dot_leaf().name) + "; rms_norm ";
    CHECK(operations({LayerType::deltanet}) == matmul + "short_conv swiglu delta_rule ");
    CHECK(operations({LayerType::swa}) == matmul + "rotary swiglu window_attention ");
    CHECK(operations({LayerType::full}) == matmul + "rotary swiglu full_attention ");
    CHECK(operations({LayerType::swa, LayerType::deltanet}) ==
          matmul + "rotary short_conv swiglu delta_rule window_attention ");
}
