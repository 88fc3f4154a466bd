// Attention as published models have it, to a window: against the double reference of the layer,
// cut anywhere, in memory that a long stream does not make larger. (What published models compute:
// families/.)
#include "hydralm/layers/grouped_attention.hpp"

#include "support/catch.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;
using Shape = RuntimeGroupedAttentionShape;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;

template <Real T>
void check(const Shape& shape, Index N, std::uint64_t seed) {
    using Layer = GroupedAttention<T, 8>;
    const Layer layer(shape);
    const auto tensors = random_tensors(layer, seed);
    const auto rows = random_rows(N, shape.d_model, seed);
    ReferenceWindowAttention reference({shape.d_model, shape.n_heads, shape.head_dim, shape.window,
                                        shape.rope_base, shape.n_kv_heads},
                                       tensors);
    const Values expected = run_reference(reference, rows);
    for (const Index piece : {Index{1}, Index{5}, Index{8}, Index{37}, N}) {
        const auto where =
            "window " + std::to_string(shape.window) + ", pieces of " + std::to_string(piece);
        LayerCase<Layer> actual(layer, tensors);
        std::vector<T> out;
        for (Index first = 0; first < N; first += piece) {
            const auto some = actual.forward(
                std::span(rows).subspan(static_cast<std::size_t>(first),
                                        static_cast<std::size_t>(std::min(piece, N - first))),
                piece == 1 ? Form::recurrent : Form::parallel);
            out.insert(out.end(), some.begin(), some.end());
        }
        check_close(out, expected, bound<T>, where);
        actual.check_state(reference, bound<T>, where);
        INFO(where);
        const Index page = actual.memory().banks()[0].layout().kinds[0].bytes[0];
        CHECK(actual.memory().size() <= page * (ceil_div(shape.window + piece, Index{8}) + 2));
    }
}

}  // namespace

TEMPLATE_TEST_CASE("grouped attention to a window keeps the window", "[layers]", float, double) {
    for (const Index window : {1, 8, 9, 24, 30})
        check<TestType>({.d_model = 20,
                         .n_heads = 4,
                         .n_kv_heads = 2,
                         .head_dim = 12,
                         .window = window,
                         .rotary_dim = 12},
                        203, static_cast<std::uint64_t>(window));
    const GroupedAttention<TestType> layer(
        {.d_model = 20, .n_heads = 2, .n_kv_heads = 1, .head_dim = 8, .window = 100});
    const auto tensors = random_tensors(layer, 1);
    LayerCase<GroupedAttention<TestType>> stream(layer, tensors);
    Index after_first = 0;
    for (Index call = 0; call < 200; ++call) {
        const auto rows = random_rows(50, 20, static_cast<std::uint64_t>(call));
        stream.forward(rows, Form::parallel);
        if (call == 4) after_first = stream.memory().size();
    }
    CHECK(stream.memory().position() == 10000);
    CHECK(stream.memory().size() == after_first);
    check_batch(layer, tensors, 9, Form::parallel);
}

TEMPLATE_TEST_CASE("grouped attention to the whole past reads the chunks it is told to", "[layers]",
                   float, double) {
    Shape shape{.d_model = 20,
                .n_heads = 4,
                .n_kv_heads = 2,
                .head_dim = 12,
                .rotary_dim = 8,
                .norm = QueryKeyNorm::each_head,
                .gate = true};
    const GroupedAttention<TestType, 8> layer(shape);
    check_sparse<8>(layer, random_tensors(layer, 7), BankFormat::exact);
    check_sparse<8>(layer, random_tensors(layer, 7), BankFormat::exact, 3 * 64 + 5, 1);

    // A window is read whole.
    shape.window = 30;
    const GroupedAttention<TestType, 8> window(shape);
    const auto tensors = random_tensors(window, 7);
    const auto rows = random_rows(100, shape.d_model, 7);
    LayerCase<GroupedAttention<TestType, 8>> all(window, tensors),
        asked(window, tensors, {.sparse = {.chunks = 1, .recent = 0}});
    CHECK(same_bits(asked.forward(rows, Form::parallel), all.forward(rows, Form::parallel)));
    CHECK(asked.memory().size() == all.memory().size());
    CHECK(scratch_bytes(window, {1, 64}) < scratch_bytes(layer, {1, 64}));
}
