// Sliding-window attention alone against the double reference of the layer: windows, forms, far
// positions.
#include "hydralm/layers/sliding_window_attention.hpp"

#include "support/catch.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index d_model = 20;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;
// 10⁷ radians are known to 1e-9 when the angle is a double.
template <class T>
constexpr double far_bound = sizeof(T) == 4 ? 2e-4 : 1e-8;

template <Real T, Index D, Index Chunk = 0>
struct Case {
    using Layer = SlidingWindowAttention<T, D, Chunk>;

    Case(RuntimeWindowShape shape, std::uint64_t seed)
        : layer(shape),
          reference_shape{shape.d_model, shape.n_heads, D, shape.window, shape.rope_base},
          tensors(random_tensors(layer, seed)),
          where("D " + std::to_string(D) + ", chunk " + std::to_string(Chunk) + ", W " +
                std::to_string(shape.window) + ", seed " + std::to_string(seed)) {}

    // For every N: N tokens in one form, the rest in the other, against the reference of the whole;
    // from a random past of position tokens.
    void check(const std::vector<Values>& rows, std::initializer_list<Index> counts, double within,
               std::int64_t position = 0) const {
        const Index I = layer.shape().n_heads * D, W = layer.shape().window;
        ReferenceWindowAttention reference(reference_shape, tensors);
        reference.position = position;
        reference.keys = random_rows(std::min<std::int64_t>(position, W), I, 50);
        reference.values = random_rows(std::min<std::int64_t>(position, W), I, 51);
        const auto start = reference;
        const Values expected = run_reference(reference, rows);
        for (const Index N : counts)
            for (const Form first : {Form::parallel, Form::recurrent}) {
                const auto text = where + ", position " + std::to_string(position) + ", N " +
                                  std::to_string(N) +
                                  (first == Form::parallel ? ", parallel" : ", recurrent");
                LayerCase<Layer> actual(layer, tensors);
                restore(actual, start);
                auto y = actual.forward(std::span(rows).first(static_cast<std::size_t>(N)), first);
                const auto rest =
                    actual.forward(std::span(rows).subspan(static_cast<std::size_t>(N)),
                                   first == Form::parallel ? Form::recurrent : Form::parallel);
                y.insert(y.end(), rest.begin(), rest.end());
                check_close(y, expected, within, text);
                actual.check_state(reference, within, text);
            }
    }

    // Token t lies in slot t mod W of every head's ring.
    void restore(LayerCase<Layer>& target, const ReferenceWindowAttention& source) const {
        const Index H = layer.shape().n_heads, W = layer.shape().window,
                    kept = static_cast<Index>(source.keys.size());
        const auto state = target.state();
        for (Index i = 0; i < kept; ++i)
            for (Index h = 0; h < H; ++h)
                for (Index j = 0; j < D; ++j) {
                    const Index slot = (source.position - kept + i) % W;
                    const auto token = static_cast<std::size_t>(i);
                    state.keys[(h * W + slot) * D + j] =
                        static_cast<T>(at(source.keys[token], h * D + j));
                    state.values[(h * W + slot) * D + j] =
                        static_cast<T>(at(source.values[token], h * D + j));
                }
        target.memory().advance(source.position);
    }

    Layer layer;
    ReferenceWindowAttention::Shape reference_shape;
    NamedValues tensors;
    std::string where;
};

template <Real T, Index D>
void sweep() {
    std::uint64_t seed = 1;
    for (const Index W : {1, 2, 3, 8, 17, 32, 200}) {
        const Case<T, D> c({d_model, 2, W, 10000.0}, ++seed);
        const Index total = std::min<Index>(3 * W + 5, 120);
        const auto rows = random_rows(total, d_model, seed);
        c.check(rows,
                {0, 1, std::min(W - 1, total), std::min(W, total), std::min(W + 1, total), total},
                bound<T>);
        c.check(rows, {0, 1, total}, bound<T>, 5);
        c.check(rows, {0, 1, total}, far_bound<T>, 10000003);
    }
    const Case<T, D> other_base({d_model, 1, 16, 500000.0}, 40);
    other_base.check(random_rows(40, d_model, 40), {13}, bound<T>);
}

template <Real T, Index D, Index Chunk>
void check_chunk() {
    const Case<T, D, Chunk> c({d_model, 2, 50, 10000.0}, 9);
    c.check(random_rows(150, d_model, 9), {0, 1, Chunk - 1, Chunk, Chunk + 1, 150}, bound<T>, 5);
}

template <Real T, Index D>
void check_static_shape() {
    using Static = SlidingWindowAttention<T, D, 0, WindowShape<d_model, 3, 17, 10000.0>>;
    const SlidingWindowAttention<T, D> runtime({d_model, 3, 17, 10000.0});
    STATIC_REQUIRE(state_bytes(Static{}) > 0);
    REQUIRE(state_bytes(Static{}) == state_bytes(runtime));
    for (const Form form : {Form::parallel, Form::recurrent})
        REQUIRE(scratch_bytes(Static{}, {2, 33, form}) == scratch_bytes(runtime, {2, 33, form}));
    const auto tensors = random_tensors(runtime, 5);
    const auto rows = random_rows(60, d_model, 5);
    for (const Form form : {Form::parallel, Form::recurrent}) {
        LayerCase<Static> a(Static{}, tensors);
        LayerCase<SlidingWindowAttention<T, D>> b(runtime, tensors);
        CHECK(same_bits(a.forward(rows, form), b.forward(rows, form)));
        CHECK(same_bits(a.memory().bytes(), b.memory().bytes()));
    }
}

// Whatever the window beyond N, every token sees all before it.
template <Real T>
void check_full_attention() {
    const Index N = 70;
    const auto rows = random_rows(N, d_model, 9);
    const Case<T, 12> full({d_model, 2, 1 << 20, 10000.0}, 9);
    ReferenceWindowAttention reference(full.reference_shape, full.tensors);
    const Values expected = run_reference(reference, rows);
    for (const Index W : {N, N + 1, 4 * N})
        for (const Form form : {Form::parallel, Form::recurrent}) {
            const SlidingWindowAttention<T, 12> layer({d_model, 2, W, 10000.0});
            LayerCase<SlidingWindowAttention<T, 12>> actual(layer, full.tensors);
            check_close(actual.forward(rows, form), expected, bound<T>,
                        "full attention, W " + std::to_string(W));
        }
}

template <Real T>
void check_writes() {
    const Case<T, 12> c({d_model, 2, 8, 10000.0}, 11);
    const auto rows = random_rows(30, d_model, 11);
    ReferenceWindowAttention reference(c.reference_shape, c.tensors);
    Values expected = run_reference(reference, rows);
    for (double& y : expected) y += 3.0;
    for (const Form form : {Form::parallel, Form::recurrent}) {
        LayerCase<SlidingWindowAttention<T, 12>> actual(c.layer, c.tensors);
        check_close(actual.forward(rows, form, Write::add), expected, bound<T>, c.where + ", add");
        actual.check_state(reference, bound<T>, c.where + ", add");
    }
}

}  // namespace

TEST_CASE("Sliding-window attention in float is its reference", "[sliding_window_attention]") {
    sweep<float, 4>();
    sweep<float, 12>();
    sweep<float, 16>();
    sweep<float, 32>();
    sweep<float, 64>();
    sweep<float, 128>();
}

TEST_CASE("Sliding-window attention in double is its reference", "[sliding_window_attention]") {
    sweep<double, 4>();
    sweep<double, 12>();
    sweep<double, 16>();
    sweep<double, 32>();
    sweep<double, 64>();
    sweep<double, 128>();
}

TEST_CASE("Sliding-window attention is its reference in every chunk",
          "[sliding_window_attention]") {
    check_chunk<float, 12, 16>();
    check_chunk<float, 32, 48>();
    check_chunk<double, 16, 64>();
    check_chunk<double, 12, 128>();
}

TEST_CASE("A window of at least N is full attention", "[sliding_window_attention]") {
    check_full_attention<float>();
    check_full_attention<double>();
}

TEST_CASE("Sliding-window attention has the same bits with a shape known to the compiler",
          "[sliding_window_attention]") {
    check_static_shape<float, 16>();
    check_static_shape<double, 12>();
}

TEST_CASE("Sliding-window attention adds to its output when asked to",
          "[sliding_window_attention]") {
    check_writes<float>();
    check_writes<double>();
}

TEST_CASE("Sliding-window attention: a stream has the same bits whatever its neighbours",
          "[sliding_window_attention]") {
    const SlidingWindowAttention<float, 12> layer({d_model, 3, 8, 10000.0});
    for (const Index N : {1, 9, 40})
        for (const Form form : {Form::parallel, Form::recurrent})
            check_batch(layer, random_tensors(layer, 3), N, form);
}

TEST_CASE("Sliding-window attention: the state advances as it does in forward",
          "[sliding_window_attention]") {
    const SlidingWindowAttention<float, 12> layer({d_model, 3, 8, 10000.0});
    check_advance(layer, random_tensors(layer, 3));
}
