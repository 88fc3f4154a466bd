// Every layer's backward against central differences, as a user checks a layer of their own.
#include "hydralm/training/gradient_check.hpp"

#include "../../examples/decayed_attention.hpp"

#include "support/catch.hpp"

using namespace hydralm;

namespace {

template <class Mixer>
void check(const Mixer& mixer, const GradientCheckOptions& options) {
    const GradientCheck found = check_gradient(mixer, options);
    INFO(found.tensor << ": " << found.error);
    CHECK(found.error < 1e-6);
}
template <class Mixer>
void check(const GradientCheckOptions& options = {}) {
    check(Mixer{}, options);
}

// Half of the gradient of the decay.
class Wrong : public my::DecayedAttention<double, 16, 2> {
    using Right = my::DecayedAttention<double, 16, 2>;

public:
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const double> x, MatrixView<const double> dy, MatrixView<double> dx,
                  G& gradients, Streams dstates, Arena& arena) const noexcept {
        Right::backward(p, transposed, tape, streams, N, x, dy, dx, gradients, dstates, arena);
        for (double& g : gradients.decay) g *= 0.5;
    }
};

// Replaces gradients instead of adding to them.
class Replacing : public my::DecayedAttention<double, 16, 2> {
    using Right = my::DecayedAttention<double, 16, 2>;

public:
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const double> x, MatrixView<const double> dy, MatrixView<double> dx,
                  G& gradients, Streams dstates, Arena& arena) const noexcept {
        for (double& g : gradients.decay) g = 0.0;
        Right::backward(p, transposed, tape, streams, N, x, dy, dx, gradients, dstates, arena);
    }
};

// Replaces y, whatever it is told.
class Assigning : public my::DecayedAttention<double, 16, 2> {
    using Right = my::DecayedAttention<double, 16, 2>;

public:
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const double> x,
                 MatrixView<double> y, Form form, Write, Arena& arena,
                 const R& tape = {}) const noexcept {
        Right::forward(p, streams, N, x, y, form, Write::assign, arena, tape);
    }
};

}  // namespace

TEST_CASE("Layers pass the gradient check", "[gradient_check]") {
    check<GatedDeltaNet<double, 8, 0, DeltaNetShape<16, 2>>>();
    check<GatedDeltaNet<double, 8, 0, DeltaNetShape<16, 2, 3, false, false>>>();
    check<SlidingWindowAttention<double, 8, 0, WindowShape<16, 2, 6>>>();
    check<GatedDeltaNet<double, 8, 64, DeltaNetShape<16, 2, 4, true, true, true>>>(
        {.tokens = 70, .most = 4});
    check<SlidingWindowAttention<double, 8, 16, WindowShape<16, 2, 6>>>({.tokens = 40, .most = 4});
    check<RetrievalAttention<double, 8, 4, RetrievalShape<16, 2, 64>>>();
    check<FullAttention<double, 8, 4, FullShape<16, 4, 2>>>();
    check<SwiGLU<double, MlpShape<16, 40>>>();
    check<my::DecayedAttention<double, 16, 2>>();
}

TEST_CASE("Attention of published models passes the gradient check, whatever its options",
          "[gradient_check]") {
    using Shape = RuntimeGroupedAttentionShape;
    const Shape plain{.d_model = 12, .n_heads = 4, .n_kv_heads = 2, .head_dim = 8};
    std::vector<Shape> shapes(9, plain);
    shapes[1].window = 6;
    shapes[2].rotary_dim = 4;
    shapes[3].rotary_dim = 8;
    shapes[4].norm = QueryKeyNorm::each_head;
    shapes[5].norm = QueryKeyNorm::all_heads;
    shapes[6].gate = true;
    shapes[7].bias = true;
    shapes[8] = {.d_model = 12,
                 .n_heads = 3,
                 .n_kv_heads = 1,
                 .head_dim = 12,
                 .window = 9,
                 .rotary_dim = 6,
                 .norm = QueryKeyNorm::each_head,
                 .epsilon = 1e-2,
                 .gate = true,
                 .bias = true};
    for (const Shape& shape : shapes) {
        check(GroupedAttention<double, 4>(shape), {});
        check(GroupedAttention<double, 4>(shape), {.tokens = 21, .past = 17, .most = 6});
    }
}

TEST_CASE("Gated DeltaNet of published models passes the gradient check, whatever its options",
          "[gradient_check]") {
    using Shape = RuntimeGroupedDeltaNetShape;
    const Shape plain{
        .d_model = 12, .key_heads = 2, .key_dim = 8, .value_heads = 2, .value_dim = 8};
    std::vector<Shape> shapes(11, plain);
    shapes[1].value_heads = 6;
    shapes[2].value_dim = 5;
    shapes[3].conv_kernel = 1;
    shapes[4].beta_scale = 2.0;
    shapes[5].gate = OutputGate::none;
    shapes[6].gate = OutputGate::sigmoid;
    shapes[7] = {.d_model = 12,
                 .key_heads = 1,
                 .key_dim = 4,
                 .value_heads = 3,
                 .value_dim = 12,
                 .conv_kernel = 3,
                 .beta_scale = 2.0,
                 .epsilon = 1e-2,
                 .gate = OutputGate::sigmoid};
    shapes[8].decay_rank = 3;
    shapes[9].gate_rank = 5;
    shapes[10] = shapes[7];
    shapes[10].decay_rank = 20;
    shapes[10].gate_rank = 3;
    for (const Shape& shape : shapes) {
        check(GroupedDeltaNet<double>(shape), {});
        check(GroupedDeltaNet<double>(shape), {.tokens = 70, .past = 1, .most = 3});
    }
}

TEST_CASE("The gradient check takes one stream, no past and one token", "[gradient_check]") {
    check<my::DecayedAttention<double, 16, 2>>({.streams = 1, .tokens = 1, .past = 0});
    check<GatedDeltaNet<double, 8, 0, DeltaNetShape<16, 2>>>(
        {.streams = 3, .tokens = 70, .past = 1, .most = 4});
}

TEST_CASE("The gradient of a layer refuses states that pass over some of the past",
          "[gradient_check]") {
    using Layer = FullAttention<double, 8, 4, FullShape<16, 4, 2>>;
    const Standalone<Layer> layer;
    LayerGradients<Layer> gradients(layer, 1, 3);
    gradients.states()[0] = layer.new_memory({.sparse = {.chunks = 1}});
    std::vector<double> x(48), y(48);
    CHECK_THROWS_AS(gradients.forward({x.data(), 3, 16}, {y.data(), 3, 16}), Error);
    CHECK(gradients.states()[0].size() == 0);
}

TEST_CASE("The gradient check names the tensor whose gradient is wrong", "[gradient_check]") {
    const GradientCheck found = check_gradient<Wrong>();
    CHECK(found.tensor == "decay");
    CHECK(found.error > 0.1);
}

TEST_CASE("The gradient check finds what is replaced instead of added to", "[gradient_check]") {
    const GradientCheck gradients = check_gradient<Replacing>();
    CHECK(gradients.tensor == "decay");
    CHECK(gradients.error > 0.1);
    const GradientCheck outputs = check_gradient<Assigning>();
    CHECK(outputs.tensor == "y added");
    CHECK(outputs.error > 0.1);
}
