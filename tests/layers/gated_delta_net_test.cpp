// Gated DeltaNet alone against the double reference of the layer: shapes, forms, carried state,
// extreme gates.
#include "hydralm/layers/gated_delta_net.hpp"

#include "support/catch.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index C = 64;  // the largest chunk
constexpr Index d_model = 20;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;

template <Real T, Index D, Index Chunk = 0>
struct Case {
    using Layer = GatedDeltaNet<T, D, Chunk>;

    explicit Case(RuntimeDeltaNetShape shape, std::uint64_t seed)
        : layer(shape),
          reference_shape{shape.d_model,
                          shape.n_heads,
                          D,
                          shape.conv_kernel,
                          shape.use_gate,
                          shape.norm_qk,
                          shape.negative_eigenvalues},
          tensors(random_tensors(layer, seed)),
          where("D " + std::to_string(D) + ", chunk " + std::to_string(Chunk) + ", K " +
                std::to_string(shape.conv_kernel) + ", gate " + std::to_string(shape.use_gate) +
                ", norm " + std::to_string(shape.norm_qk) + ", negative " +
                std::to_string(shape.negative_eigenvalues) + ", seed " + std::to_string(seed)) {
        if (!shape.norm_qk)  // keys short enough for a stable recurrence
            for (double& w : tensors["qkv_proj.weight"])
                w = static_cast<double>(static_cast<float>(w / std::sqrt(double(D))));
    }

    // For every N: N tokens in one form, the rest in the other, against the reference of the whole.
    void check(const std::vector<Values>& rows, std::initializer_list<Index> counts) const {
        ReferenceDeltaNet reference(reference_shape, tensors);
        const Values expected = run_reference(reference, rows);
        for (const Index N : counts)
            for (const Form first : {Form::parallel, Form::recurrent}) {
                LayerCase<Layer> actual(layer, tensors);
                const auto text = where + ", N " + std::to_string(N) +
                                  (first == Form::parallel ? ", parallel" : ", recurrent");
                auto y = actual.forward(std::span(rows).first(static_cast<std::size_t>(N)), first);
                const auto rest =
                    actual.forward(std::span(rows).subspan(static_cast<std::size_t>(N)),
                                   first == Form::parallel ? Form::recurrent : Form::parallel);
                y.insert(y.end(), rest.begin(), rest.end());
                check_close(y, expected, bound<T>, text);
                actual.check_state(reference, bound<T>, text);
            }
    }

    Layer layer;
    ReferenceDeltaNet::Shape reference_shape;
    NamedValues tensors;
    std::string where;
};

template <Real T, Index D>
void sweep() {
    std::uint64_t seed = 1;
    for (const Index K : {1, 2, 4, 7})
        for (const bool gate : {true, false})
            for (const bool norm : {true, false}) {
                const Case<T, D> c({d_model, 2, K, gate, norm}, ++seed);
                c.check(random_rows(3 * 8 + 5, d_model, seed), {0, 1, 2, 7, 8, 9, 29});
            }
    for (const bool negative : {false, true}) {
        const Case<T, D> c({d_model, 1, 4, true, true, negative}, 100);
        c.check(random_rows(3 * C + 5, d_model, 100), {C - 1, C, C + 1, 3 * C + 5});
    }
}

template <Real T, Index D, Index Chunk>
void check_chunk() {
    const Case<T, D, Chunk> c({d_model, 2, 4, true, true}, 9);
    c.check(random_rows(3 * Chunk + 5, d_model, 9),
            {0, 1, Chunk - 1, Chunk, Chunk + 1, 3 * Chunk + 5});
}

template <Real T, Index D>
void check_extreme_gates() {
    const auto rows = [&] {
        auto all = random_rows(2 * C + 9, d_model, 7);
        for (std::size_t n = 0; n < all.size(); ++n)
            all[n][0] = n / static_cast<std::size_t>(C) % 2 == 0 ? -1.0 : 1.0;
        return all;
    }();
    const auto with_bias = [&](double alpha_weight, double alpha_bias, double beta_bias,
                               bool negative = false) {
        Case<T, D> c({d_model, 2, 4, true, true, negative}, 7);
        Values& weight = c.tensors["ab_proj.weight"];  // [2H, d]
        for (Index i = 0; i < 2 * d_model; ++i)
            at(weight, i) = i % d_model == 0 ? alpha_weight : 0.0;
        c.tensors["ab_proj.bias"] = {alpha_bias, alpha_bias, beta_bias, beta_bias};
        c.where += ", alpha bias " + std::to_string(alpha_bias) + " and weight " +
                   std::to_string(alpha_weight) + ", beta bias " + std::to_string(beta_bias);
        c.check(rows, {1, C - 1, C + 1, 2 * C + 9});
    };
    for (const double beta : {-60.0, 0.0, 60.0}) {
        with_bias(0.0, -69.0, beta);  // α = 1e-30 throughout
        with_bias(0.0, 69.0, beta);   // α = 1
        with_bias(69.0, 0.0, beta);   // α = 1e-30 for a chunk, then 1 for a chunk
        with_bias(-5.0, 0.0, beta);   // the cumulated decay of a chunk underflows, no single α does
    }
    with_bias(0.0, 69.0, 60.0, true);  // α = 1, β = 2: reflections, which nothing damps
}

template <Real T, Index D>
void check_static_shape() {
    using Static = GatedDeltaNet<T, D, 0, DeltaNetShape<d_model, 3, 4, true, true, true>>;
    const GatedDeltaNet<T, D> runtime({d_model, 3, 4, true, true, true});
    STATIC_REQUIRE(state_bytes(Static{}) > 0);
    REQUIRE(state_bytes(Static{}) == state_bytes(runtime));
    for (const Form form : {Form::parallel, Form::recurrent})
        REQUIRE(scratch_bytes(Static{}, {2, 33, form}) == scratch_bytes(runtime, {2, 33, form}));
    const auto tensors = random_tensors(runtime, 5);
    const auto rows = random_rows(2 * C + 3, d_model, 5);
    for (const Form form : {Form::parallel, Form::recurrent}) {
        LayerCase<Static> a(Static{}, tensors);
        LayerCase<GatedDeltaNet<T, D>> b(runtime, tensors);
        CHECK(same_bits(a.forward(rows, form), b.forward(rows, form)));
        CHECK(same_bits(a.memory().bytes(), b.memory().bytes()));
    }
}

template <Real T>
void check_writes() {
    const Case<T, 12> c({d_model, 2, 4, true, true}, 11);
    const auto rows = random_rows(C + 5, d_model, 11);
    ReferenceDeltaNet reference(c.reference_shape, c.tensors);
    Values expected = run_reference(reference, rows);
    for (double& y : expected) y += 3.0;
    for (const Form form : {Form::parallel, Form::recurrent}) {
        LayerCase<GatedDeltaNet<T, 12>> actual(c.layer, c.tensors);
        check_close(actual.forward(rows, form, Write::add), expected, bound<T>, c.where + ", add");
        actual.check_state(reference, bound<T>, c.where + ", add");
    }
}

}  // namespace

TEST_CASE("Gated DeltaNet in float is its reference", "[gated_delta_net]") {
    sweep<float, 4>();
    sweep<float, 12>();
    sweep<float, 16>();
    sweep<float, 64>();
    sweep<float, 128>();
}

TEST_CASE("Gated DeltaNet in double is its reference", "[gated_delta_net]") {
    sweep<double, 4>();
    sweep<double, 12>();
    sweep<double, 16>();
    sweep<double, 32>();
    sweep<double, 64>();
}

TEST_CASE("Gated DeltaNet is its reference in every chunk", "[gated_delta_net]") {
    check_chunk<float, 12, 4>();
    check_chunk<float, 64, 8>();
    check_chunk<float, 64, 16>();
    check_chunk<float, 32, 32>();
    check_chunk<float, 64, 64>();
    check_chunk<double, 20, 4>();
    check_chunk<double, 16, 32>();
    check_chunk<double, 12, 64>();
}

TEST_CASE("Gated DeltaNet stays exact where decay underflows and where it is absent",
          "[gated_delta_net]") {
    check_extreme_gates<float, 12>();
    check_extreme_gates<double, 12>();
    check_extreme_gates<float, 64>();
}

TEST_CASE("Gated DeltaNet has the same bits with a shape known to the compiler",
          "[gated_delta_net]") {
    check_static_shape<float, 16>();
    check_static_shape<double, 12>();
}

TEST_CASE("Gated DeltaNet adds to its output when asked to", "[gated_delta_net]") {
    check_writes<float>();
    check_writes<double>();
}

TEST_CASE("Gated DeltaNet: a stream has the same bits whatever its neighbours",
          "[gated_delta_net]") {
    const GatedDeltaNet<float, 12> layer({d_model, 3, 4, true, true});
    for (const Index N : {1, 9, 40})
        for (const Form form : {Form::parallel, Form::recurrent})
            check_batch(layer, random_tensors(layer, 3), N, form);
}

TEST_CASE("Gated DeltaNet: the state advances as it does in forward", "[gated_delta_net]") {
    const GatedDeltaNet<float, 12> layer({d_model, 3, 4, true, true});
    check_advance(layer, random_tensors(layer, 3));
}
