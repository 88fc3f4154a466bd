// Gradients of whole models: golden vectors, chunks with carried state, batches, central
// differences.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "hydralm/training/gradients.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/shared_gradients.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Next-token labels of one text; the last token has none.
std::vector<token_id> next_tokens(std::span<const token_id> ids) {
    std::vector<token_id> labels(ids.begin() + 1, ids.end());
    labels.push_back(kernels::ignore_index);
    return labels;
}

// Adds to the gradients, the streams going on from a copy of these states.
template <class Model>
kernels::LossSum add(Gradients<Model>& gradients, const Model& model, std::span<const token_id> ids,
                     std::span<const token_id> labels, BatchStates<Model> states, double scale) {
    const Index N = static_cast<Index>(ids.size()) / std::max<Index>(1, states.count());
    return gradients.add(model, ids, labels, states.streams(N), scale);
}

template <class Model>
void check_golden(const std::string& name) {
    using T = typename Model::Scalar;
    constexpr double bound = sizeof(T) == 4 ? 1e-3 : 1e-9;
    const Model model = golden_model<Model>(name);
    const GoldenFile expected = read_golden("model/" + name + "/expected.safetensors");
    const auto ids = expected["input_ids"].as<token_id>();
    const auto labels = next_tokens(ids);
    Gradients<Model> gradients(model, 1, static_cast<Index>(ids.size()));
    gradients.refresh(model);
    const auto loss = add(gradients, model, ids, labels, BatchStates<Model>(model, 1),
                          1.0 / static_cast<double>(ids.size() - 1));
    check_close(std::vector{loss.mean()}, expected["loss"].values, bound, name + ", loss");
    gradients.for_each([&](const ParameterInfo& info, auto values) {
        const std::string field = "grad." + std::string(info.name());
        check_close(values, expected[field].values, bound, name + ", " + field);
    });
}

// Small models whose kernels have ragged ends: head_dim 4, 3 and 4 taps, a window narrower and
// wider than the text.
inline constexpr HydraConfig ungated_untied{.vocab_size = 11,
                                            .d_model = 8,
                                            .n_layers = 2,
                                            .n_heads = 2,
                                            .head_dim = 4,
                                            .mlp_multiple_of = 4,
                                            .dn_short_conv_kernel = 3,
                                            .dn_use_gate = false,
                                            .swa_window = 5,
                                            .layer_types = LayerTypes{deltanet, swa},
                                            .tie_embeddings = false};
inline constexpr HydraConfig free_qk_wide{.vocab_size = 11,
                                          .d_model = 8,
                                          .n_layers = 2,
                                          .n_heads = 2,
                                          .head_dim = 4,
                                          .mlp_multiple_of = 4,
                                          .dn_norm_qk = false,
                                          .swa_window = 64,
                                          .layer_types = LayerTypes{swa, deltanet}};
inline constexpr HydraConfig reflecting{.vocab_size = 11,
                                        .d_model = 8,
                                        .n_layers = 1,
                                        .n_heads = 2,
                                        .head_dim = 4,
                                        .mlp_multiple_of = 4,
                                        .dn_negative_eigenvalues = true,
                                        .layer_types = LayerTypes{deltanet}};
// All chunks kept, so that no difference moves a selection; and two of them, for exact identities.
inline constexpr HydraConfig remembering{.vocab_size = 11,
                                         .d_model = 8,
                                         .n_layers = 3,
                                         .n_heads = 2,
                                         .head_dim = 4,
                                         .mlp_multiple_of = 4,
                                         .layer_types = LayerTypes{retrieval, deltanet, retrieval},
                                         .retrieval_chunk_size = 5,
                                         .retrieval_top_k = 16};
inline constexpr HydraConfig selective{.vocab_size = 11,
                                       .d_model = 8,
                                       .n_layers = 2,
                                       .n_heads = 2,
                                       .head_dim = 4,
                                       .mlp_multiple_of = 4,
                                       .layer_types = LayerTypes{retrieval, swa},
                                       .retrieval_chunk_size = 4,
                                       .retrieval_top_k = 2};

inline constexpr HydraConfig attentive{.vocab_size = 11,
                                       .d_model = 8,
                                       .n_layers = 2,
                                       .n_heads = 4,
                                       .head_dim = 4,
                                       .n_kv_heads = 1,
                                       .mlp_multiple_of = 4,
                                       .layer_types = LayerTypes{full, deltanet}};

template <class Model>
std::vector<token_id> random_ids(Index count, std::uint64_t seed) {
    Random random(seed, 7);
    std::vector<token_id> ids(static_cast<std::size_t>(count));
    for (token_id& id : ids)
        id = static_cast<token_id>(random.below(static_cast<std::uint64_t>(Model::vocab_size())));
    return ids;
}

// A state after the first tokens of a text.
template <class Model>
BatchStates<Model> after(const Model& model, const std::vector<token_id>& ids) {
    BatchStates<Model> states(model, 1);
    const auto N = static_cast<Index>(ids.size());
    AlignedBuffer<std::byte> workspace(Model::workspace_bytes(1, N));
    Arena arena(workspace.span());
    model.forward(ids.data(), states.streams(N), N, Form::parallel, arena);
    states.advance(N);
    return states;
}

template <class T>
std::vector<T> copy(std::span<T> values) {
    return {values.begin(), values.end()};
}
std::vector<double> as_doubles(std::span<const std::byte> bytes) {
    std::vector<double> values(bytes.size() / sizeof(double));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

// Σ loss of labels in the recurrent form of inference: nothing in common with the gradient but the
// weights.
template <class Model>
double loss_of(const Model& model, const std::vector<token_id>& ids,
               const std::vector<token_id>& labels, BatchStates<Model> states) {
    const auto N = static_cast<Index>(ids.size());
    AlignedBuffer<std::byte> workspace(Model::workspace_bytes(1, N));
    AlignedBuffer<double> logits(N * Model::vocab_size()), losses(N);
    Arena arena(workspace.span());
    const MatrixView<double> rows(logits.data(), N, Model::vocab_size());
    model.head(model.forward(ids.data(), states.streams(N), N, Form::recurrent, arena), rows);
    return kernels::cross_entropy(rows, labels, losses.span()).sum;
}

// The bytes of a stream's memory, and what its banks hold of the tokens before position.
std::vector<std::byte> all_of(StreamMemory memory, std::int64_t position) {
    memory.advance(position - memory.position());
    std::vector<std::byte> bytes(memory.bytes().begin(), memory.bytes().end());
    const auto banks = memory.bank_bytes();
    bytes.insert(bytes.end(), banks.begin(), banks.end());
    return bytes;
}

// f'(0) to sixth order: h⁶ f⁽⁷⁾/140, and the rounding of f over h, are both below the bound.
template <class F>
double central_difference(const F& f) {
    constexpr double h = 8e-4;
    return (45 * (f(h) - f(-h)) - 9 * (f(2 * h) - f(-2 * h)) + (f(3 * h) - f(-3 * h))) / (60 * h);
}

// Gradients of some forty numbers of every parameter, and of all of the first state, against
// central differences.
template <class Model>
void check_central_differences(Index before, Index N, double bound = 2e-8) {
    const Model model = random_model<Model>(3);
    std::vector<double> weights;
    model.get_parameters([&](const ParameterInfo&, auto values) {
        weights.insert(weights.end(), values.begin(), values.end());
    });
    const std::string where = "position " + std::to_string(before) + ", N " + std::to_string(N);
    const auto ids = random_ids<Model>(N, 4);
    auto labels = next_tokens(ids);
    labels[labels.size() / 2] = kernels::ignore_index;
    const BatchStates<Model> start = after(model, random_ids<Model>(before, 5));
    Gradients<Model> gradients(model, 1, N);
    gradients.refresh(model);
    add(gradients, model, ids, labels, start, 1.0);

    gradients.for_each([&](const ParameterInfo& info, auto exact) {
        // Both begin with what is as large as the rounding of the loss, 1e-11 in a difference, over
        // the bound: a tensor of smaller gradients is not compared more closely than that.
        std::vector<double> some{1e-11 / bound}, differences = some;
        for (std::size_t i = 0; i < exact.size(); i += 1 + exact.size() / 40) {
            const auto loss_at = [&](double step) {
                Model moved;
                auto next = weights.begin();
                moved.set_parameters([&](const ParameterInfo& p, std::span<double> values) {
                    std::copy_n(next, values.size(), values.begin());
                    if (p.name() == info.name()) values[i] += step;
                    next += static_cast<std::ptrdiff_t>(values.size());
                });
                return loss_of(moved, ids, labels, start);
            };
            some.push_back(exact[i]);
            differences.push_back(central_difference(loss_at));
        }
        check_close(some, differences, bound, where + ", " + std::string(info.name()));
    });

    const auto exact = as_doubles(all_of(gradients.state_gradients()[0], before));
    const std::vector<std::byte> first = all_of(start[0], before);
    std::vector<double> differences;
    for (std::size_t i = 0; i < exact.size(); ++i) {
        const auto loss_at = [&](double step) {
            std::vector<double> values = as_doubles(first);
            values[i] += step;
            const auto bytes = std::as_bytes(std::span(values));
            const auto fixed = static_cast<std::size_t>(Model::state_bytes);
            BatchStates<Model> moved(model, 1);
            moved[0].restore(bytes.first(fixed), bytes.subspan(fixed), before);
            return loss_of(model, ids, labels, moved);
        };
        differences.push_back(central_difference(loss_at));
    }
    check_close(exact, differences, bound, where + ", first state");
}

// The gradient of a text in pieces, the last first, each given the gradient of the state that it
// hands on.
template <class Model>
void check_pieces(Index before, const std::vector<Index>& pieces) {
    const Model model = random_model<Model>(8);
    Index N = 0;
    for (const Index piece : pieces) N += piece;
    const auto ids = random_ids<Model>(N, 9);
    const auto labels = next_tokens(ids);
    const BatchStates<Model> start = after(model, random_ids<Model>(before, 10));
    Gradients<Model> whole(model, 1, N);
    whole.refresh(model);
    double loss = add(whole, model, ids, labels, start, 1.0).sum;

    const auto part = [](const std::vector<token_id>& all, Index first, Index count) {
        return std::span(all).subspan(static_cast<std::size_t>(first),
                                      static_cast<std::size_t>(count));
    };
    std::vector<BatchStates<Model>> starts{start};
    for (Index first = 0; const Index piece : pieces) {
        BatchStates<Model> next(starts.back());
        Gradients<Model> advance(model, 1, piece);
        advance.refresh(model);
        advance.add(model, part(ids, first, piece), part(labels, first, piece), next.streams(piece),
                    1.0);
        next.advance(piece);
        starts.push_back(next);
        first += piece;
    }
    std::vector<double> sum(static_cast<std::size_t>(Model::parameter_count));
    StreamMemory carried = Model::new_memory();
    Index first = N;
    for (std::size_t i = pieces.size(); i-- > 0;) {
        first -= pieces[i];
        Gradients<Model> gradients(model, 1, pieces[i]);
        gradients.refresh(model);
        gradients.state_gradients()[0] = carried;
        loss -= add(gradients, model, part(ids, first, pieces[i]), part(labels, first, pieces[i]),
                    starts[i], 1.0)
                    .sum;
        carried = gradients.state_gradients()[0];
        std::transform(sum.begin(), sum.end(), gradients.values().begin(), sum.begin(),
                       std::plus<>());
    }
    const std::string where =
        "position " + std::to_string(before) + ", pieces of " + std::to_string(pieces[0]) + " …";
    CHECK(std::abs(loss) < 1e-10);
    check_close(sum, whole.values(), 1e-10, where);
    check_close(as_doubles(all_of(carried, before)),
                as_doubles(all_of(whole.state_gradients()[0], before)), 1e-10,
                where + ", first state");
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

TEST_CASE("gradients against central differences") {
    for (const Index before : {0, 3, 9})
        for (const Index N : {1, 4, 37}) {
            check_central_differences<HydraLM<ungated_untied, double>>(before, N);
            check_central_differences<HydraLM<free_qk_wide, double>>(before, N);
            check_central_differences<HydraLM<reflecting, double>>(before, N);
            // The gate's logit has a factor of 8: its seventh derivative counts.
            check_central_differences<HydraLM<remembering, double>>(before, N, 5e-7);
        }
}

TEST_CASE("gradients through attention to the whole past against central differences") {
    check_central_differences<HydraLM<attentive, double>>(0, 4);
    check_central_differences<HydraLM<attentive, double>>(9, 37);
    check_central_differences<HydraLM<attentive, double>>(61, 7);  // over the end of a page
}

TEST_CASE("gradients through pieces with carried state are those of the whole") {
    for (const Index before : {0, 6, 70})
        for (const auto& pieces :
             std::vector<std::vector<Index>>{{20, 21}, {1, 40}, {40, 1}, {3, 2, 1, 35}, {33, 64}}) {
            check_pieces<HydraLM<hybrid_4l, double>>(before, pieces);
            check_pieces<HydraLM<free_qk_wide, double>>(before, pieces);
            check_pieces<HydraLM<ungated_untied, double>>(before, pieces);
            check_pieces<HydraLM<remembering, double>>(before, pieces);
            check_pieces<HydraLM<selective, double>>(before, pieces);
            check_pieces<HydraLM<attentive, double>>(before, pieces);
        }
}

TEST_CASE("a batch has the sum of its streams' gradients") {
    using Model = HydraLM<hybrid_4l, double>;
    constexpr Index N = 41;
    const Model model = random_model<Model>(11);
    const auto ids = random_ids<Model>(2 * N, 12), labels = random_ids<Model>(2 * N, 13);
    BatchStates<Model> both(model, 2);
    const std::vector<BatchStates<Model>> single{after(model, random_ids<Model>(5, 14)),
                                                 after(model, random_ids<Model>(0, 15))};
    std::vector<double> sum(static_cast<std::size_t>(Model::parameter_count)), first_states;
    double loss = 0;
    for (std::size_t b = 0; b < 2; ++b) {
        both[static_cast<Index>(b)] = single[b][0];
        Gradients<Model> gradients(model, 1, N);
        gradients.refresh(model);
        loss += add(gradients, model, std::span(ids).subspan(b * N, N),
                    std::span(labels).subspan(b * N, N), single[b], 0.5)
                    .sum;
        std::transform(sum.begin(), sum.end(), gradients.values().begin(), sum.begin(),
                       std::plus<>());
        const auto state = as_doubles(gradients.state_gradients()[0].bytes());
        first_states.insert(first_states.end(), state.begin(), state.end());
    }
    Gradients<Model> gradients(model, 2, N);
    gradients.refresh(model);
    CHECK(add(gradients, model, ids, labels, both, 0.5).sum == Approx(loss).epsilon(1e-13));
    check_close(gradients.values(), sum, 1e-12, "batch of 2");
    check_close(as_doubles(gradients.state_gradients().bytes()), first_states, 1e-12,
                "batch of 2, first states");
}

TEST_CASE("gradients: what is added to, cleared and refused") {
    using Model = HydraLM<no_qk_norm_2l, double>;
    constexpr Index N = 9;
    const Model model = random_model<Model>(19);
    auto ids = random_ids<Model>(N, 20), labels = random_ids<Model>(N, 21);
    Gradients<Model> gradients(model, 1, N);
    gradients.refresh(model);
    add(gradients, model, ids, labels, BatchStates<Model>(model, 1), 1.0);
    auto twice = copy(gradients.values());
    for (double& g : twice) g *= 2;
    gradients.clear_states();
    add(gradients, model, ids, labels, BatchStates<Model>(model, 1), 1.0);
    check_close(gradients.values(), twice, 1e-13, "added twice");

    gradients.clear();
    const std::vector<token_id> none(N, kernels::ignore_index);
    const auto loss = add(gradients, model, ids, none, BatchStates<Model>(model, 1), 1.0);
    CHECK(loss.count == 0);
    CHECK(loss.sum == 0);
    CHECK(std::all_of(gradients.values().begin(), gradients.values().end(),
                      [](double g) { return g == 0; }));

    CHECK_THROWS_AS(add(gradients, model, std::span(ids).first(3), std::span(labels).first(3),
                        BatchStates<Model>(model, 1), 1.0),
                    Error);
    CHECK_THROWS_AS(add(gradients, model, ids, labels, BatchStates<Model>(model, 2), 1.0), Error);
    CHECK_THROWS_AS(
        add(gradients, model, ids, std::span(labels).first(3), BatchStates<Model>(model, 1), 1.0),
        Error);
    labels[4] = Model::vocab_size();
    CHECK_THROWS_AS(add(gradients, model, ids, labels, BatchStates<Model>(model, 1), 1.0), Error);
    labels[4] = 0;
    ids[4] = -1;
    CHECK_THROWS_AS(add(gradients, model, ids, labels, BatchStates<Model>(model, 1), 1.0), Error);
}

TEST_CASE("gradients: labels given apart add up to labels given together") {
    using Model = HydraLM<no_qk_norm_2l, double>;
    constexpr Index N = 2 * head_rows + 75;  // some of these rows' logits, all, and more than once
    const Model model = random_model<Model>(23);
    const auto ids = random_ids<Model>(N, 24), labels = random_ids<Model>(N, 25);
    Gradients<Model> gradients(model, 1, N);
    gradients.refresh(model);
    const auto of = [&](auto has_label) {
        auto some = labels;
        for (Index n = 0; n < N; ++n)
            if (!has_label(n)) some[static_cast<std::size_t>(n)] = kernels::ignore_index;
        gradients.clear_states();
        return add(gradients, model, ids, some, BatchStates<Model>(model, 1), 1.0);
    };
    const auto all = of([](Index) { return true; });
    const auto together = copy(gradients.values());
    gradients.clear();
    // One token in seven, and the first of them behind a long stretch without any.
    const auto seldom = [](Index n) { return n > head_rows && n % 7 == 3; };
    const auto most = of([&](Index n) { return !seldom(n); });
    const auto few = of(seldom);
    CHECK(all.count == N);
    CHECK(most.count + few.count == N);
    CHECK(most.sum + few.sum == Approx(all.sum).epsilon(1e-13));
    check_close(gradients.values(), together, 1e-12, "apart");
}
