// Attention to the whole past alone against the double reference of the layer: groups, forms, far
// positions, formats; a window that holds everything.
#include "hydralm/layers/full_attention.hpp"

#include "hydralm/layers/full_attention_backward.hpp"
#include "hydralm/layers/sliding_window_attention.hpp"
#include "hydralm/layers/transposed_parameters.hpp"
#include "support/catch.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index d_model = 20;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;

template <Real T, Index D, Index C>
void check(Index H, Index Hkv, double base, std::uint64_t seed) {
    using Layer = FullAttention<T, D, C>;
    const Layer layer({d_model, H, Hkv, base});
    const auto tensors = random_tensors(layer, seed);
    const Index N = 3 * C + 5;
    const auto rows = random_rows(N, d_model, seed);
    ReferenceWindowAttention reference({d_model, H, D, N, base, Hkv}, tensors);
    const Values expected = run_reference(reference, rows);
    const auto span = [&](Index first, Index count) {
        return std::span(rows).subspan(static_cast<std::size_t>(first),
                                       static_cast<std::size_t>(count));
    };
    LayerCase<Layer> whole(layer, tensors);
    const auto y = whole.forward(rows, Form::parallel);
    for (const Index first : {Index{0}, Index{1}, C - 1, C, C + 1, N}) {
        const auto where = "D " + std::to_string(D) + ", C " + std::to_string(C) + ", H " +
                           std::to_string(H) + ", Hkv " + std::to_string(Hkv) + ", cut at " +
                           std::to_string(first);
        LayerCase<Layer> actual(layer, tensors);
        auto out = actual.forward(span(0, first), Form::parallel);
        for (Index n = first; n < N; ++n) {
            const auto one = actual.forward(span(n, 1), Form::recurrent);
            out.insert(out.end(), one.begin(), one.end());
        }
        check_close(out, expected, bound<T>, where);
        CHECK(same_bits(out, y));
        CHECK(actual.memory().bank_bytes() == whole.memory().bank_bytes());
        actual.check_state(reference, bound<T>, where);
    }
}

template <Real T>
void sweep() {
    check<T, 4, 8>(2, 0, 10000.0, 1);
    check<T, 4, 8>(6, 2, 10000.0, 2);
    check<T, 12, 13>(4, 1, 500000.0, 3);
    check<T, 64, 64>(2, 1, 10000.0, 4);
}

// Whatever the window beyond N, the layers see the same.
template <Real T>
void check_wide_window() {
    const Index N = 150;
    const auto rows = random_rows(N, d_model, 9);
    const FullAttention<T, 12> full({d_model, 2, 2, 10000.0});
    const auto tensors = random_tensors(full, 9);
    LayerCase<FullAttention<T, 12>> actual(full, tensors);
    const auto y = actual.forward(rows, Form::parallel);
    for (const Index W : {N, 4 * N}) {
        const SlidingWindowAttention<T, 12> window({d_model, 2, W, 10000.0});
        LayerCase<SlidingWindowAttention<T, 12>> expected(window, tensors);
        check_close(y, expected.forward(rows, Form::parallel), sizeof(T) == 4 ? 1e-5 : 1e-13,
                    "window " + std::to_string(W));
    }
}

// Every format but the exact one, by what it rounds.
template <Real T>
void check_formats() {
    using Layer = FullAttention<T, 16, 8>;
    const Layer layer({d_model, 4, 2, 10000.0});
    const auto tensors = random_tensors(layer, 6);
    const auto rows = random_rows(100, d_model, 6);
    LayerCase<Layer> exact(layer, tensors);
    const auto expected = exact.forward(rows, Form::parallel);
    for (const auto& [format, limit] :
         {std::pair{BankFormat::bf16, 0.02}, {BankFormat::int8, 0.05}}) {
        LayerCase<Layer> rounded(layer, tensors, {.format = format});
        const auto y = rounded.forward(rows, Form::parallel);
        check_close(y, expected, limit, std::string(name(format)));
        CHECK_FALSE(same_bits(y, expected));
        CHECK(rounded.memory().size() < exact.memory().size());
    }
}

template <Real T>
void check_writes() {
    using Layer = FullAttention<T, 12, 8>;
    const Layer layer({d_model, 2, 1, 10000.0});
    const auto tensors = random_tensors(layer, 11);
    const auto rows = random_rows(30, d_model, 11);
    ReferenceWindowAttention reference({d_model, 2, 12, 100, 10000.0, 1}, tensors);
    Values expected = run_reference(reference, rows);
    for (double& y : expected) y += 3.0;
    LayerCase<Layer> actual(layer, tensors);
    check_close(actual.forward(rows, Form::parallel, Write::add), expected, bound<T>, "add");
}

// Σ c ⊙ y over a text, and its gradient in pieces, the last first.
class Loss {
public:
    using Layer = FullAttention<double, 4, 8>;

    Loss() : tensors(random_tensors(layer_, 13)), rows(random_rows(N, d_model, 13)) {}

    double value() const {
        LayerCase<Layer> one(layer_, tensors);
        const auto y = one.forward(rows, Form::recurrent);
        double sum = 0;
        for (Index n = 0; n < N; ++n)
            for (Index i = 0; i < d_model; ++i)
                sum += at(weight_[static_cast<std::size_t>(n)], i) *
                       y[static_cast<std::size_t>(n * d_model + i)];
        return sum;
    }

    // In file order: the parameters' gradients, then that of x.
    std::vector<double> gradient(const std::vector<Index>& pieces) const {
        LayerCase<Layer> one(layer_, tensors);
        Index parameters = 0, transposed_elements = 0;
        describe_parameters(layer_, [&](const ParameterInfo& info) {
            parameters += info.size();
            transposed_elements += transposed_size<double>(info);
        });
        AlignedBuffer<double> transposed_memory(transposed_elements);
        double* next = transposed_memory.data();
        describe_parameters(layer_, [&](const ParameterInfo& info) {
            const Values& given = tensors.at(std::string(info.name()));
            next = store_transposed<double>(info, std::span<const double>(given), next);
        });
        Layer::Parameters<TransposedStorage<double>> transposed{};
        BindTransposed<double> bind_transposed(transposed_memory.data());
        layer_.visit(transposed, bind_transposed);
        std::vector<double> all(static_cast<std::size_t>(parameters + N * d_model));
        Layer::Parameters<FlatStorage<double>> gradients{};
        BindFlat<double> bind(all.data());
        layer_.visit(gradients, bind);

        StridedRows<double> x(rows, d_model), dy(weight_, d_model);
        const MatrixView<double> dx(all.data() + parameters, N, d_model);
        std::vector<Stream> starts;
        std::vector<typename Layer::Tape> tapes;
        AlignedBuffer<std::byte> kept_memory(tape_bytes(layer_, 1, N) + 4096 * 8),
            scratch_memory(training_scratch_bytes(layer_, 1, N));
        Arena kept(kept_memory.span()), scratch(scratch_memory.span());
        StridedRows<double> y(N, d_model, 0.0);
        Index first = 0;
        for (const Index n : pieces) {
            one.memory().reserve(n);
            starts.push_back(one.memory().stream());
            tapes.push_back(take_tape(layer_, kept, 1, n));
            layer_.forward(one.parameters(), Streams(&starts.back(), 1), n,
                           x.view().middle_rows(first, n), y.view().middle_rows(first, n),
                           Form::parallel, Write::assign, scratch, tapes.back());
            one.memory().advance(n);
            first += n;
        }
        LayerCase<Layer> dstate(layer_, tensors);
        dstate.memory().reserve(N);
        const Stream dstream = dstate.memory().stream();
        for (std::size_t i = pieces.size(); i-- > 0;) {
            const Index n = pieces[i];
            first -= n;
            layer_.backward(one.parameters(), transposed, tapes[i], Streams(&starts[i], 1), n,
                            x.view().middle_rows(first, n), dy.view().middle_rows(first, n),
                            dx.middle_rows(first, n), gradients, Streams(&dstream, 1), scratch);
        }
        return all;
    }

    std::vector<double> differences() {
        std::vector<double> all;
        describe_parameters(layer_, [&](const ParameterInfo& info) {
            for (double& w : tensors.at(std::string(info.name())))
                all.push_back(moved([&](double step) { w += step; }));
        });
        for (Values& row : rows)
            for (double& v : row) all.push_back(moved([&](double step) { v += step; }));
        return all;
    }

    static constexpr Index N = 21;

private:
    template <class Move>
    double moved(const Move& move) const {
        constexpr double h = 1e-5;
        move(h);
        const double up = value();
        move(-2 * h);
        const double down = value();
        move(h);
        return (up - down) / (2 * h);
    }

    Layer layer_{RuntimeFullShape{d_model, 4, 2, 10000.0}};
    std::vector<Values> weight_ = random_rows(N, d_model, 14);

public:
    NamedValues tensors;
    std::vector<Values> rows;
};

}  // namespace

TEST_CASE("Gradients of attention to the whole past are central differences, in any pieces",
          "[full_attention]") {
    Loss loss;
    const auto expected = loss.differences();
    for (const auto& pieces : {std::vector<Index>{21}, {8, 13}, {3, 1, 17}})
        check_close(loss.gradient(pieces), expected, 1e-8,
                    std::to_string(pieces.size()) + " pieces");
}

TEST_CASE("Attention to the whole past is its reference, in every form and cut",
          "[full_attention]") {
    sweep<float>();
    sweep<double>();
}

TEST_CASE("Attention to the whole past is that of a window which holds it", "[full_attention]") {
    check_wide_window<float>();
    check_wide_window<double>();
}

TEST_CASE("Attention to the whole past keeps it in every format", "[full_attention]") {
    check_formats<float>();
    check_formats<double>();
}

TEST_CASE("Attention to the whole past reads the chunks it is told to", "[full_attention]") {
    const FullAttention<float, 12, 8> layer({d_model, 4, 2, 10000.0});
    for (const BankFormat format : {BankFormat::exact, BankFormat::bf16, BankFormat::int8})
        check_sparse<8>(layer, random_tensors(layer, 7), format);
    check_sparse<8>(layer, random_tensors(layer, 7), BankFormat::exact, 3 * 64 + 5, 2);
}

TEST_CASE("Attention to the whole past has the same bits with a shape known to the compiler",
          "[full_attention]") {
    using Static = FullAttention<float, 12, 8, FullShape<d_model, 4, 2>>;
    using Runtime = FullAttention<float, 12, 8>;
    const Runtime runtime({d_model, 4, 2, 10000.0});
    STATIC_REQUIRE(state_extent(Static{}).banks == 1);
    REQUIRE(scratch_bytes(Static{}, {2, 33}) == scratch_bytes(runtime, {2, 33}));
    const auto tensors = random_tensors(runtime, 5);
    const auto rows = random_rows(60, d_model, 5);
    LayerCase<Static> a(Static{}, tensors);
    LayerCase<Runtime> b(runtime, tensors);
    CHECK(same_bits(a.forward(rows, Form::parallel), b.forward(rows, Form::parallel)));
    CHECK(a.memory().bank_bytes() == b.memory().bank_bytes());
}

TEST_CASE("Attention to the whole past adds to its output when asked to", "[full_attention]") {
    check_writes<float>();
    check_writes<double>();
}

TEST_CASE("Attention to the whole past: a stream has the same bits whatever its neighbours",
          "[full_attention]") {
    const FullAttention<float, 12, 8> layer({d_model, 4, 2, 10000.0});
    for (const Index N : {1, 9, 40})
        check_batch(layer, random_tensors(layer, 3), N, Form::parallel);
}

TEST_CASE("Attention to the whole past: the state advances as it does in forward",
          "[full_attention]") {
    const FullAttention<float, 12, 8> layer({d_model, 4, 2, 10000.0});
    check_advance(layer, random_tensors(layer, 3));
    check_advance(layer, random_tensors(layer, 3), {.sparse = {.chunks = 1, .recent = 0}});
}

TEST_CASE("Attention to the whole past needs scratch that no past makes larger",
          "[full_attention]") {
    const FullAttention<float, 12, 8> layer({d_model, 4, 2, 10000.0});
    CHECK(scratch_bytes(layer, {}) < 40000);
    LayerCase<FullAttention<float, 12, 8>> one(layer, random_tensors(layer, 3));
    const auto rows = random_rows(1, d_model, 3);
    one.memory().reserve(3000);  // all that a step reads
    one.memory().advance(3000);
    one.forward(rows,
                Form::recurrent);  // takes scratch_bytes of one token, or the arena ends the test
}
