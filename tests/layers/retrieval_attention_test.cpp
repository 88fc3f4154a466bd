// Retrieval attention alone: golden vectors, the double reference, cuts, neighbours, forks,
// gradients.
#include "hydralm/layers/retrieval_attention.hpp"

#include "hydralm/layers/retrieval_attention_backward.hpp"
#include "hydralm/layers/transposed_parameters.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-9;

NamedValues tensors_of(const GoldenFile& golden) {
    NamedValues tensors;
    for (const auto& [name, tensor] : golden.tensors) tensors[name] = tensor.values;
    return tensors;
}

std::vector<Values> rows_of(const GoldenTensor& x) {
    const auto d = static_cast<std::ptrdiff_t>(x.shape[1]);
    std::vector<Values> rows;
    for (auto row = x.values.begin(); row != x.values.end(); row += d)
        rows.emplace_back(row, row + d);
    return rows;
}

template <class Layer>
Layer golden_layer(const GoldenFile& golden) {
    return Layer({golden["x"].shape[1], std::stol(golden.metadata.at("n_heads")),
                  std::stol(golden.metadata.at("top_k")), 4});
}

// record and backward of one call from a fresh stream.
template <class Layer>
struct LayerGradient {
    using T = typename Layer::Scalar;
    NamedValues of;  // by parameter
    std::vector<T> y, dx;
    std::vector<std::int32_t> selected;  // [N, H, top_k]

    LayerGradient(const Layer& layer, const NamedValues& tensors, const std::vector<Values>& rows,
                  const Values& dy_values) {
        const auto N = static_cast<Index>(rows.size());
        const Index d = layer.shape().d_model, H = layer.shape().n_heads, k = layer.shape().top_k;
        LayerCase<Layer> forward(layer, tensors);
        LayerCase<Layer> gradient_state(layer, tensors);
        Index flat_size = 0, transposed_elements = 0;
        describe_parameters(layer, [&](const ParameterInfo& info) {
            flat_size += info.size();
            transposed_elements += transposed_size<T>(info);
        });
        AlignedBuffer<T> flat(flat_size), turned(transposed_elements);
        typename Layer::template Parameters<FlatStorage<T>> gradients{};
        typename Layer::template Parameters<TransposedStorage<T>> transposed{};
        BindFlat<T> bind_flat(flat.data());
        layer.visit(gradients, bind_flat);
        BindTransposed<T> bind_turned(turned.data());
        layer.visit(transposed, bind_turned);
        T* next = turned.data();
        describe_parameters(layer, [&](const ParameterInfo& info) {
            const Values& given = tensors.at(std::string(info.name()));
            const std::vector<T> values(given.begin(), given.end());
            next = store_transposed<T>(info, std::span<const T>(values), next);
        });
        AlignedBuffer<std::byte> kept(tape_bytes(layer, 1, N)),
            scratch(training_scratch_bytes(layer, 1, N));
        Arena kept_arena(kept.span()), arena(scratch.span());
        StridedRows<T> x(rows, d);
        y.assign(static_cast<std::size_t>(N * d), std::numeric_limits<T>::quiet_NaN());
        dx = y;
        const std::vector<T> dy(dy_values.begin(), dy_values.end());
        forward.memory().reserve(N);
        gradient_state.memory().reserve(N);
        const Stream stream = forward.memory().stream(), dstream = gradient_state.memory().stream();
        const auto tape = take_tape(layer, kept_arena, 1, N);
        layer.forward(forward.parameters(), Streams(&stream, 1), N, x.view(), {y.data(), N, d},
                      Form::parallel, Write::assign, arena, tape);
        for (Index h = 0; h < H; ++h) {
            const auto s = layer.selection(tape, 0, h, N);
            selected.resize(static_cast<std::size_t>(N * H * k));
            for (Index t = 0; t < N; ++t)
                std::copy_n(s.chunks + t * k, k, selected.data() + (t * H + h) * k);
        }
        layer.backward(forward.parameters(), transposed, tape, Streams(&stream, 1), N, x.view(),
                       {dy.data(), N, d}, {dx.data(), N, d}, gradients, Streams(&dstream, 1),
                       arena);
        const T* from = flat.data();
        describe_parameters(layer, [&](const ParameterInfo& info) {
            of[std::string(info.name())] = Values(from, from + info.size());
            from += info.size();
        });
    }
};

template <Real T, Index D, Index C>
void check_golden(const std::string& name) {
    using Layer = RetrievalAttention<T, D, C>;
    const GoldenFile golden = read_golden("retrieval/" + name + ".safetensors");
    const auto layer = golden_layer<Layer>(golden);
    const NamedValues tensors = tensors_of(golden);
    const auto rows = rows_of(golden["x"]);
    LayerCase<Layer> actual(layer, tensors);
    check_close(actual.forward(rows, Form::parallel), golden["y"].values, bound<T>, name + ", y");
    LayerCase<Layer> stepped(layer, tensors);
    std::vector<T> y;
    for (const Values& row : rows) {
        const auto one = stepped.forward(std::span(&row, 1), Form::recurrent);
        y.insert(y.end(), one.begin(), one.end());
    }
    check_close(y, golden["y"].values, bound<T>, name + ", y by steps");

    constexpr double gradient_bound = sizeof(T) == 4 ? 1e-3 : 1e-9;
    const LayerGradient<Layer> gradient(layer, tensors, rows, golden["grad_y"].values);
    CHECK(gradient.selected == golden["selected_chunks"].as<std::int32_t>());
    check_close(gradient.y, golden["y"].values, bound<T>, name + ", y of record");
    check_close(gradient.dx, golden["grad_x"].values, gradient_bound, name + ", grad_x");
    for (const auto& [parameter, values] : gradient.of)
        check_close(values, golden["grad." + parameter].values, gradient_bound,
                    name + ", " + parameter);
}

template <Real T, Index D, Index C>
void sweep() {
    using Layer = RetrievalAttention<T, D, C>;
    constexpr Index d = 20;
    std::uint64_t seed = 1;
    for (const Index top_k : {1, 3, 64})
        for (const Index K : {1, 4}) {
            const Layer layer({d, 2, top_k, K});
            auto tensors = random_tensors(layer, ++seed);
            const Index total = std::max<Index>(4 * C + 3, 70);
            const auto rows = random_rows(total, d, seed);
            ReferenceRetrieval reference({d, 2, D, C, top_k, K}, tensors);
            const Values expected = reference.run(rows);
            LayerCase<Layer> whole(layer, tensors);
            const auto y = whole.forward(rows, Form::parallel);
            const auto where = "D " + std::to_string(D) + ", C " + std::to_string(C) + ", k " +
                               std::to_string(top_k) + ", K " + std::to_string(K);
            check_close(y, expected, bound<T>, where);
            whole.layer().export_state(
                whole.state(), total,
                [&](const std::string& name, auto, const std::vector<T>& values) {
                    if (name == "keys") check_close(values, reference.keys, bound<T>, where);
                    if (name == "values") check_close(values, reference.values, bound<T>, where);
                });
            // Any cut, either form: the same bits.
            for (const Index cut : {Index{0}, Index{1}, C - 1, C, C + 1, total - 1}) {
                LayerCase<Layer> pieces(layer, tensors);
                auto both = pieces.forward(std::span(rows).first(static_cast<std::size_t>(cut)),
                                           Form::recurrent);
                const auto rest = pieces.forward(
                    std::span(rows).subspan(static_cast<std::size_t>(cut)), Form::parallel);
                both.insert(both.end(), rest.begin(), rest.end());
                CHECK(same_bits(both, y));
                CHECK(pieces.memory().bank_bytes() == whole.memory().bank_bytes());
            }
        }
}

}  // namespace

TEST_CASE("Retrieval attention: golden vectors", "[golden][retrieval_attention]") {
    check_golden<float, 16, 16>("c16_k3");
    check_golden<double, 16, 16>("c16_k3");
    check_golden<float, 12, 8>("c8_k2");
    check_golden<double, 12, 8>("c8_k2");
}

TEST_CASE("Retrieval attention is its reference, whatever the cut", "[retrieval_attention]") {
    sweep<double, 4, 1>();
    sweep<double, 12, 5>();
    sweep<double, 16, 16>();
    sweep<double, 32, 33>();
    sweep<double, 64, 64>();
}

TEST_CASE("Retrieval attention in float, all chunks kept, is its reference",
          "[retrieval_attention]") {
    using Layer = RetrievalAttention<float, 16, 8>;
    const Layer layer({20, 2, 64, 4});
    const auto tensors = random_tensors(layer, 5);
    const auto rows = random_rows(133, 20, 5);
    ReferenceRetrieval reference({20, 2, 16, 8, 64, 4}, tensors);
    LayerCase<Layer> actual(layer, tensors);
    check_close(actual.forward(rows, Form::parallel), reference.run(rows), bound<float>,
                "all chunks kept");
}

TEST_CASE("Retrieval attention: a stream has the same bits whatever its neighbours",
          "[retrieval_attention]") {
    const RetrievalAttention<float, 12, 8> layer({20, 3, 2, 4});
    for (const Index N : {1, 9, 40})
        for (const Form form : {Form::parallel, Form::recurrent})
            check_batch(layer, random_tensors(layer, 3), N, form);
}

TEST_CASE("Retrieval attention: the state advances as it does in forward",
          "[retrieval_attention]") {
    const RetrievalAttention<float, 12, 8> layer({20, 3, 2, 4});
    check_advance(layer, random_tensors(layer, 3));
}

TEST_CASE("Retrieval attention: a future of NaN changes no past", "[retrieval_attention]") {
    using Layer = RetrievalAttention<float, 12, 8>;
    const Layer layer({20, 2, 2, 4});
    const auto tensors = random_tensors(layer, 7);
    auto rows = random_rows(60, 20, 7);
    const auto forward = [&] {
        LayerCase<Layer> one(layer, tensors);
        return one.forward(rows, Form::parallel);
    };
    auto before = forward();
    rows[37].assign(20, std::numeric_limits<double>::quiet_NaN());
    auto after = forward();
    before.resize(37 * 20);
    after.resize(37 * 20);
    CHECK(same_bits(before, after));
}

TEST_CASE("Retrieval attention: forks share what was written before and go their own ways",
          "[retrieval_attention]") {
    using Layer = RetrievalAttention<float, 12, 8>;
    const Layer layer({20, 2, 2, 4});
    const auto tensors = random_tensors(layer, 9);
    const auto rows = random_rows(100, 20, 9);
    const auto other = random_rows(40, 20, 10);
    const auto first = std::span(rows).first(60), rest = std::span(rows).subspan(60);
    LayerCase<Layer> trunk(layer, tensors), branch(layer, tensors), alone(layer, tensors);
    trunk.forward(first, Form::parallel);
    branch.memory() = trunk.memory();
    branch.forward(other, Form::parallel);  // into the same open chunk
    alone.forward(first, Form::parallel);
    CHECK(same_bits(trunk.forward(rest, Form::parallel), alone.forward(rest, Form::parallel)));
    CHECK(trunk.memory().bank_bytes() == alone.memory().bank_bytes());

    LayerCase<Layer> fresh(layer, tensors);  // the branch, too, is as if alone
    fresh.forward(first, Form::parallel);
    fresh.forward(other, Form::parallel);
    CHECK(fresh.memory().bank_bytes() == branch.memory().bank_bytes());
}
