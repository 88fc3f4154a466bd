// Gradients of the gated delta rule: golden vectors, the token-level oracle, central differences.
#include <array>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/delta_rule_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double golden_bound = sizeof(T) == 4 ? 1e-3 : 1e-9;
template <class T>
constexpr double bound = sizeof(T) == 4 ? 1e-4 : 1e-10;

// Everything a backward pass writes; the gates share a buffer as they do in a layer.
template <class T, Index D>
struct Gradients {
    Index N;
    std::vector<T> q, k, v, gates, state;

    Gradients(Index tokens, std::vector<T> dstate)
        : N(tokens),
          q(static_cast<std::size_t>(N * D), std::numeric_limits<T>::quiet_NaN()),
          k(q),
          v(q),
          gates(static_cast<std::size_t>(2 * N), std::numeric_limits<T>::quiet_NaN()),
          state(std::move(dstate)) {}

    kernels::GatedDeltaGradients<T, D> views() {
        return {MatrixView<T, D>(q.data(), N), MatrixView<T, D>(k.data(), N),
                MatrixView<T, D>(v.data(), N), StridedSpan<T>(gates.data(), N, 2),
                StridedSpan<T>(gates.data() + 1, N, 2)};
    }
    std::vector<T> column(Index which) const {
        std::vector<T> values;
        for (Index t = 0; t < N; ++t)
            values.push_back(gates[static_cast<std::size_t>(2 * t + which)]);
        return values;
    }
};

template <class T, Index D>
Gradients<T, D> oracle(const DeltaRuleCase<T, D>& c, const std::vector<T>& dout,
                       const std::vector<T>& dstate) {
    Gradients<T, D> g(c.N, dstate);
    kernels::gated_delta_backward_reference<T, D>(
        c.input(), MatrixView<const T, D>(c.state.data(), D),
        MatrixView<const T, D>(dout.data(), c.N), MatrixView<T, D>(g.state.data(), D), g.views());
    return g;
}

// Recorded in blocks of 8 tokens, or of Block.
template <Index Chunk, Index Block = 8, class T, Index D>
Gradients<T, D> chunked(const DeltaRuleCase<T, D>& c, const std::vector<T>& dout,
                        const std::vector<T>& dstate) {
    AlignedBuffer<std::byte> bytes(
        std::max(kernels::gated_delta_workspace_bytes<T, D>(Block),
                 kernels::gated_delta_backward_workspace_bytes<T, D, Chunk>()));
    Arena arena(bytes.span());
    std::vector<T> kept(static_cast<std::size_t>(ceil_div(c.N, Chunk) * D * D));
    run(c, [&](const auto& input, auto state, auto out) {
        kernels::gated_delta_chunkwise<Block>(input, state, out, Block, arena,
                                              {kept.data(), Chunk});
    });
    Gradients<T, D> g(c.N, dstate);
    kernels::gated_delta_backward<Chunk>(
        c.input(), kept.data(), MatrixView<const T, D>(dout.data(), c.N),
        MatrixView<T, D>(g.state.data(), g.state.empty() ? 0 : D), g.views(), arena);
    return g;
}

template <class T, Index D, class F>
void check_golden(const std::string& name, const F& form) {
    const GoldenFile file = read_golden("delta_rule/" + name);
    for (Index h = 0; h < file["q"].shape[0]; ++h) {
        const DeltaRuleCase<T, D> c(file, h);
        const auto part = [&](const std::string& tensor, Index width) {
            return c.golden(file, tensor, h, c.N * width);
        };
        const auto as = [](const std::vector<double>& v) {
            return std::vector<T>(v.begin(), v.end());
        };
        const auto g = form(c, as(part("grad_out", D)),
                            DeltaRuleCase<T, D>::golden_state(file, "grad_final_state", h));
        check_close(g.q, part("grad_q", D), golden_bound<T>, name + " dq");
        check_close(g.k, part("grad_k", D), golden_bound<T>, name + " dk");
        check_close(g.v, part("grad_v", D), golden_bound<T>, name + " dv");
        check_close(g.column(1), part("grad_beta", 1), golden_bound<T>, name + " dbeta");
        auto dalpha = g.column(0);  // dα = dg / α
        for (Index t = 0; t < c.N; ++t)
            dalpha[static_cast<std::size_t>(t)] /=
                static_cast<T>(c.value(file, "alpha", h * c.N + t));
        check_close(dalpha, part("grad_alpha", 1), golden_bound<T>, name + " dalpha");
        check_close(g.state, DeltaRuleCase<double, D>::golden_state(file, "grad_initial_state", h),
                    golden_bound<T>, name + " dS");
    }
}

template <class T>
void check_all_golden() {
    const auto reference = [](const auto& c, const auto& dout, const auto& dstate) {
        return oracle(c, dout, dstate);
    };
    const auto chunk_16 = [](const auto& c, const auto& dout, const auto& dstate) {
        return chunked<16>(c, dout, dstate);
    };
    const auto chunk_32 = [](const auto& c, const auto& dout, const auto& dstate) {
        return chunked<32>(c, dout, dstate);
    };
    check_golden<T, 16>("d16_n7.safetensors", reference);
    check_golden<T, 64>("d64_n100_state.safetensors", reference);
    check_golden<T, 16>("d16_n7.safetensors", chunk_32);
    check_golden<T, 32>("d32_n64_state.safetensors", chunk_16);
    check_golden<T, 64>("d64_n100_state.safetensors", chunk_16);
    check_golden<T, 128>("d128_n33.safetensors", chunk_32);
}

template <Index Chunk, Index Block = 8, class T, Index D>
void check_against_oracle(const DeltaRuleCase<T, D>& c, bool with_dstate) {
    const auto dout = random_values<T>(c.N * D, c.seed);
    const auto dstate = with_dstate ? random_values<T>(D * D, c.seed + 1)
                                    : std::vector<T>(static_cast<std::size_t>(D * D));
    const auto expected = oracle(c, dout, dstate);
    const auto actual = chunked<Chunk, Block>(c, dout, with_dstate ? dstate : std::vector<T>());
    const std::string where =
        c.where() + ", chunk " + std::to_string(Chunk) + ", block " + std::to_string(Block);
    check_close(actual.q, expected.q, bound<T>, "dq, " + where);
    check_close(actual.k, expected.k, bound<T>, "dk, " + where);
    check_close(actual.v, expected.v, bound<T>, "dv, " + where);
    check_close(actual.column(0), expected.column(0), bound<T>, "dg, " + where);
    check_close(actual.column(1), expected.column(1), bound<T>, "dbeta, " + where);
    if (with_dstate) check_close(actual.state, expected.state, bound<T>, "dS, " + where);
}

template <class T, Index D, Index Chunk, Index Block = 8>
void sweep() {
    for (const Index N : {Index(0), Index(1), Chunk - 1, Chunk, Chunk + 1, 3 * Chunk + 5})
        check_against_oracle<Chunk, Block>(
            DeltaRuleCase<T, D>(N, static_cast<std::uint64_t>(N + D), -0.5, N % 2 == 1),
            N % 3 != 0);
}

// Keys of D numbers and values of V, which only the views know.
template <class T>
void check_widths(Index D, Index V, Index N) {
    const auto count = [](Index n) { return static_cast<std::size_t>(n); };
    std::vector<T> qkv = random_values<T>(N * (2 * D + V), 1), g = random_values<T>(N, 2),
                   beta = random_values<T>(N, 3);
    for (Index t = 0; t < N; ++t)
        for (Index i = 0; i < 2 * D; ++i)
            qkv[count(t * (2 * D + V) + i)] /= static_cast<T>(std::sqrt(static_cast<double>(D)));
    for (T& x : g) x = -std::abs(x) / 2;
    for (T& x : beta) x = std::min(std::abs(x), T(2));
    const auto part = [&](Index first, Index width) {
        return MatrixView<const T>(qkv.data() + first, N, width, 2 * D + V);
    };
    const kernels::GatedDeltaInput<T, dynamic> input{
        part(0, D), part(D, D), part(2 * D, V), {g.data(), N}, {beta.data(), N}};
    const auto begun = random_values<T>(D * V, 4), dout = random_values<T>(N * V, 5),
               dstate = random_values<T>(D * V, 6);
    const auto run_form = [&](const auto& form) {
        std::vector<T> made(count(N * (2 * D + V + 2) + D * V),
                            std::numeric_limits<T>::quiet_NaN());
        T* const gates = made.data() + N * (2 * D + V);
        T* const state = gates + 2 * N;
        std::copy(dstate.begin(), dstate.end(), state);
        const auto to = [&](Index first, Index width) {
            return MatrixView<T>(made.data() + first, N, width, 2 * D + V);
        };
        form(MatrixView<T>(state, D, V),
             kernels::GatedDeltaGradients<T, dynamic>{
                 to(0, D), to(D, D), to(2 * D, V), {gates, N, 2}, {gates + 1, N, 2}});
        return made;
    };
    const MatrixView<const T> given(dout.data(), N, V);
    const auto expected = run_form([&](MatrixView<T> state, const auto& gradients) {
        kernels::gated_delta_backward_reference<T, dynamic, dynamic>(input, {begun.data(), D, V},
                                                                     given, state, gradients);
    });
    const auto actual = run_form([&](MatrixView<T> state, const auto& gradients) {
        AlignedBuffer<std::byte> bytes(
            std::max(kernels::gated_delta_workspace_bytes<T, dynamic>(8, D, V),
                     kernels::gated_delta_backward_workspace_bytes<T, dynamic, 16>(D, V)));
        std::fill(bytes.begin(), bytes.end(), std::byte{0xff});  // NaN
        Arena arena(bytes.span());
        std::vector<T> kept(count(ceil_div(N, Index{16}) * D * V)), last = begun, out(count(N * V));
        kernels::gated_delta_chunkwise<8, T, dynamic, dynamic>(
            input, {last.data(), D, V}, {out.data(), N, V}, 8, arena, {kept.data(), 16});
        std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
        kernels::gated_delta_backward<16, T, dynamic, dynamic>(input, kept.data(), given, state,
                                                               gradients, arena);
    });
    const auto slice = [](const std::vector<T>& all, Index first) {
        return std::vector<T>(all.begin() + first, all.end());
    };
    const std::string where =
        "D = " + std::to_string(D) + ", V = " + std::to_string(V) + ", N = " + std::to_string(N);
    check_close(actual, expected, bound<T>, where);
    check_close(slice(actual, N * (2 * D + V)), slice(expected, N * (2 * D + V)), bound<T>,
                where + ", gates and state");
}

}  // namespace

TEMPLATE_TEST_CASE("gated delta rule backward: keys and values of other widths than each other",
                   "[kernels][delta_rule]", float, double) {
    for (const auto& [D, V] :
         {std::array<Index, 2>{16, 24}, {12, 24}, {8, 16}, {16, 7}, {96, 192}, {128, 4}})
        for (const Index N : {0, 1, 16, 37}) check_widths<TestType>(D, V, N);
}

TEST_CASE("gated delta rule backward: golden gradients in float", "[kernels][delta_rule]") {
    check_all_golden<float>();
}
TEST_CASE("gated delta rule backward: golden gradients in double", "[kernels][delta_rule]") {
    check_all_golden<double>();
}

TEST_CASE("gated delta rule backward: the token-level oracle", "[kernels][delta_rule]") {
    sweep<float, 64, 16>();
    sweep<float, 20, 32>();
    sweep<double, 4, 16>();
    sweep<double, 36, 8>();
    sweep<double, 64, 64>();
    sweep<float, 64, 64, 64>();
    sweep<double, 20, 32, 32>();
    sweep<double, 12, 32, 4>();
}

TEST_CASE("gated delta rule backward: decay down to nothing stays exact", "[kernels][delta_rule]") {
    for (int kind = 0; kind < 3; ++kind) {
        DeltaRuleCase<double, 16> c(53, static_cast<std::uint64_t>(kind), -0.1, true);
        DeltaRuleCase<float, 16> f(53, static_cast<std::uint64_t>(kind), -0.1, true);
        for (Index t = 0; t < c.N; ++t) {
            const double g = kind == 0 ? std::log(1e-30) : -std::numeric_limits<double>::infinity();
            if (kind == 0 || kind == 1 || t % 3 == 1) {
                c.g(t) = g;
                f.g(t) = static_cast<float>(g);
            }
        }
        check_against_oracle<16>(c, true);
        check_against_oracle<32>(f, true);
    }
}

TEST_CASE("gated delta rule backward: a token with alpha 0 begins anew", "[kernels][delta_rule]") {
    const double never = -std::numeric_limits<double>::infinity();
    for (const auto& resets :
         std::vector<std::vector<Index>>{{0}, {31}, {32}, {15, 16, 17}, {0, 31, 32, 33, 52}}) {
        DeltaRuleCase<double, 16> c(53, 4, -0.1, true);
        DeltaRuleCase<float, 16> f(53, 4, -0.1, true);
        for (const Index t : resets) {
            c.g(t) = never;
            f.g(t) = static_cast<float>(never);
        }
        check_against_oracle<16>(c, true);
        check_against_oracle<32>(c, true);
        check_against_oracle<32>(f, true);
        // dg = α dα is 0 there; a reset at once leaves the first state no influence.
        const auto g =
            chunked<32>(c, random_values<double>(c.N * 16, 1), random_values<double>(16 * 16, 2));
        for (const Index t : resets) CHECK(g.column(0)[static_cast<std::size_t>(t)] == 0);
        if (resets.front() == 0) CHECK(g.state == std::vector<double>(16 * 16));
    }
}

TEST_CASE("gated delta rule backward: central differences in double", "[kernels][delta_rule]") {
    constexpr Index D = 4;
    DeltaRuleCase<double, D> c(11, 17, -1.0, true);
    const auto dout = random_values<double>(c.N * D, 1);
    const auto dstate = random_values<double>(D * D, 2);
    const auto g = chunked<8>(c, dout, dstate);
    const auto loss = [&] {
        const auto r = run(c, [](const auto& input, auto state, auto out) {
            kernels::gated_delta_reference<double, D>(input, state, out);
        });
        double sum = 0;
        for (std::size_t i = 0; i < r.out.size(); ++i) sum += r.out[i] * dout[i];
        for (std::size_t i = 0; i < r.state.size(); ++i) sum += r.state[i] * dstate[i];
        return sum;
    };
    const auto derivative = [&](double& value) {
        const double kept = value, h = 1e-5;
        value = kept + h;
        const double up = loss();
        value = kept - h;
        const double down = loss();
        value = kept;
        return (up - down) / (2 * h);
    };
    std::vector<double> q, k, v, gates, state;
    for (Index t = 0; t < c.N; ++t) {
        for (Index i = 0; i < D; ++i) {
            q.push_back(derivative(c.at(t, 0, i)));
            k.push_back(derivative(c.at(t, 1, i)));
            v.push_back(derivative(c.at(t, 2, i)));
        }
        gates.push_back(derivative(c.g(t)));
        gates.push_back(derivative(c.beta(t)));
    }
    for (double& s : c.state) state.push_back(derivative(s));
    check_close(g.q, q, 1e-8, "dq");
    check_close(g.k, k, 1e-8, "dk");
    check_close(g.v, v, 1e-8, "dv");
    check_close(g.gates, gates, 1e-8, "dg, dbeta");
    check_close(g.state, state, 1e-8, "dS");
}
