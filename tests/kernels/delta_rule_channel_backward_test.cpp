// Gradients of the gated delta rule with a decay for every key channel: the token-level oracle,
// central differences of it and of the chunks, and those of one decay where all channels agree.
#include <array>
#include <numeric>

#include "support/catch.hpp"
#include "support/channel_decay_case.hpp"
#include "support/compare.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 1e-4 : 1e-10;

// Everything a backward pass writes, NaN before, but for the gradient of the state: rows one
// element off any alignment.
template <class T>
struct Gradients {
    Index N, D, V;
    std::vector<T> q, k, v, g, beta, state;

    Gradients(const ChannelDecayCase<T>& c, std::vector<T> dstate)
        : N(c.N),
          D(c.D),
          V(c.V),
          q(static_cast<std::size_t>(N * (D + 1) + 1), std::numeric_limits<T>::quiet_NaN()),
          k(q),
          v(static_cast<std::size_t>(N * (V + 1) + 1), q[0]),
          g(q),
          beta(static_cast<std::size_t>(2 * N), q[0]),
          state(std::move(dstate)) {}

    MatrixView<T> rows(std::vector<T>& of, Index width) {
        return {of.data() + 1, N, width, width + 1};
    }
    auto views() {
        return kernels::GatedDeltaGradients<T, dynamic, dynamic, kernels::ChannelDecay<T, dynamic>>{
            rows(q, D), rows(k, D), rows(v, V), rows(g, D), {beta.data(), N, 2}};
    }
    // With one decay, the gradient of which lies beside that of β.
    auto of_head() {
        return kernels::GatedDeltaGradients<T, dynamic>{
            rows(q, D), rows(k, D), rows(v, V), {beta.data() + 1, N, 2}, {beta.data(), N, 2}};
    }
    // The elements of rows: nothing else was written.
    std::vector<T> dense(std::vector<T>& of, Index width) {
        std::vector<T> values;
        CHECK(std::isnan(of[0]));
        for (Index t = 0; t < N; ++t) {
            const T* const row = rows(of, width).row(t);
            values.insert(values.end(), row, row + width);
            CHECK(std::isnan(row[width]));
        }
        return values;
    }
    std::vector<T> column(Index which) const {
        std::vector<T> values;
        for (Index t = 0; t < N; ++t)
            values.push_back(beta[static_cast<std::size_t>(2 * t + which)]);
        return values;
    }
};

template <class T>
Gradients<T> oracle(const ChannelDecayCase<T>& c, const std::vector<T>& dout,
                    const std::vector<T>& dstate) {
    Gradients<T> g(c, dstate);
    using Decay = kernels::ChannelDecay<T, dynamic>;
    kernels::gated_delta_backward_reference<T, dynamic, dynamic, Decay>(
        c.input(), {c.state.data(), c.D, c.V}, {dout.data(), c.N, c.V}, {g.state.data(), c.D, c.V},
        g.views());
    return g;
}

// Recorded in blocks of 8 tokens, in memory that is NaN before; dstate: none is one of zeros.
template <Index Chunk, class T, class Input, class Views>
void run_chunks(const ChannelDecayCase<T>& c, const Input& input, const std::vector<T>& dout,
                std::vector<T>& dstate, const Views& views) {
    using D = std::integral_constant<Index, dynamic>;
    AlignedBuffer<std::byte> bytes(std::max(
        kernels::gated_delta_channel_workspace_bytes<T, D::value>(8, c.D, c.V),
        kernels::gated_delta_channel_backward_workspace_bytes<T, D::value, Chunk>(c.D, c.V)));
    std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
    Arena arena(bytes.span());
    std::vector<T> kept(static_cast<std::size_t>(ceil_div(c.N, Chunk) * c.D * c.V)),
        out(static_cast<std::size_t>(c.N * c.V)), last = c.state;
    kernels::gated_delta_chunkwise<8>(input, MatrixView<T>(last.data(), c.D, c.V),
                                      MatrixView<T>(out.data(), c.N, c.V), 8, arena,
                                      {kept.data(), Chunk});
    std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
    kernels::gated_delta_backward<Chunk>(input, kept.data(), {dout.data(), c.N, c.V},
                                         {dstate.empty() ? nullptr : dstate.data(), c.D, c.V},
                                         views, arena);
    CHECK(arena.used() == 0);
}
template <Index Chunk, class T>
Gradients<T> chunks(const ChannelDecayCase<T>& c, const std::vector<T>& dout,
                    const std::vector<T>& dstate) {
    Gradients<T> g(c, dstate);
    run_chunks<Chunk>(c, c.input(), dout, g.state, g.views());
    return g;
}

template <class T>
void check_same(Gradients<T>& actual, Gradients<T>& expected, const std::string& where) {
    const Index D = actual.D, V = actual.V;
    check_close(actual.dense(actual.q, D), expected.dense(expected.q, D), bound<T>, "dq, " + where);
    check_close(actual.dense(actual.k, D), expected.dense(expected.k, D), bound<T>, "dk, " + where);
    check_close(actual.dense(actual.v, V), expected.dense(expected.v, V), bound<T>, "dv, " + where);
    check_close(actual.column(0), expected.column(0), bound<T>, "dbeta, " + where);
    if (!actual.state.empty()) check_close(actual.state, expected.state, bound<T>, "dS, " + where);
}

template <Index Chunk, class T>
void check_against_oracle(const ChannelDecayCase<T>& c, bool with_dstate, const std::string& what) {
    const auto dout = random_values<T>(c.N * c.V, c.seed);
    const auto dstate = with_dstate ? random_values<T>(c.D * c.V, c.seed + 1)
                                    : std::vector<T>(static_cast<std::size_t>(c.D * c.V));
    auto expected = oracle(c, dout, dstate);
    auto actual = chunks<Chunk>(c, dout, with_dstate ? dstate : std::vector<T>());
    const std::string where = what + ", " + c.where() + ", chunk " + std::to_string(Chunk);
    check_same(actual, expected, where);
    check_close(actual.dense(actual.g, c.D), expected.dense(expected.g, c.D), bound<T>,
                "dg, " + where);
}

template <Index Chunk, class T>
void sweep() {
    constexpr std::array<std::array<Index, 2>, 8> widths{
        {{4, 4}, {8, 12}, {12, 7}, {16, 16}, {20, 36}, {36, 20}, {128, 24}, {64, 100}}};
    for (const auto& [D, V] : widths)
        for (const Index N : {Index{0}, Index{1}, Chunk - 1, Chunk, Chunk + 1, 3 * Chunk + 5})
            check_against_oracle<Chunk>(
                ChannelDecayCase<T>(N, D, V, static_cast<std::uint64_t>(100 * D + V + N),
                                    N % 2 == 0 ? -0.5 : -8.0),
                (N + D) % 3 != 0, "sweep");
}

}  // namespace

TEMPLATE_TEST_CASE("gated delta rule by channels, backward: the token-level oracle",
                   "[kernels][delta_rule]", float, double) {
    sweep<16, TestType>();
    sweep<32, TestType>();
}

TEMPLATE_TEST_CASE("gated delta rule by channels, backward: decay down to nothing stays exact",
                   "[kernels][delta_rule]", float, double) {
    for (int kind = 0; kind < extreme_gates; ++kind) {
        ChannelDecayCase<TestType> c(75, 20, 12, static_cast<std::uint64_t>(kind), -0.1);
        c.make_extreme(kind);
        check_against_oracle<32>(c, true, "extreme gates " + std::to_string(kind));
    }
}

// dg = α dα is 0 there; what is forgotten at once has no influence.
TEMPLATE_TEST_CASE("gated delta rule by channels, backward: a channel begins anew by itself",
                   "[kernels][delta_rule]", float, double) {
    using T = TestType;
    for (const auto& resets : std::vector<std::vector<Index>>{{0}, {31}, {32}, {0, 31, 33, 52}}) {
        ChannelDecayCase<T> c(53, 12, 8, 4, -0.1);
        for (const Index t : resets) c.g(t, 3) = never<T>;
        check_against_oracle<32>(c, true, "resets");
        auto g = chunks<32>(c, random_values<T>(c.N * c.V, 1), random_values<T>(c.D * c.V, 2));
        for (const Index t : resets) {
            CHECK(g.views().log_decay(t, 3) == 0);
            CHECK(g.views().log_decay(t, 4) != 0);
        }
        for (Index j = 0; j < c.V && resets.front() == 0; ++j) {
            CHECK(g.state[static_cast<std::size_t>(3 * c.V + j)] == 0);
            CHECK(g.state[static_cast<std::size_t>(4 * c.V + j)] != 0);
        }
    }
}

TEMPLATE_TEST_CASE("gated delta rule by channels, backward: equal channels are one decay",
                   "[kernels][delta_rule]", float, double) {
    using T = TestType;
    for (const double least : {-0.3, -30.0}) {
        ChannelDecayCase<T> c(53, 36, 20, 5, least);
        for (Index t = 0; t < c.N; ++t) {
            if (t % 11 == 6) c.g(t, 0) = never<T>;
            for (Index i = 1; i < c.D; ++i) c.g(t, i) = c.g(t, 0);
        }
        const auto dout = random_values<T>(c.N * c.V, 1), dstate = random_values<T>(c.D * c.V, 2);
        auto channels = chunks<32>(c, dout, dstate);
        Gradients<T> head(c, dstate);
        run_chunks<32>(c, c.of_head(), dout, head.state, head.of_head());
        check_same(channels, head, "gates from " + std::to_string(least));
        std::vector<T> sums;
        for (Index t = 0; t < c.N; ++t) {
            const T* const row = channels.views().log_decay.row(t);
            sums.push_back(std::accumulate(row, row + c.D, T(0)));
        }
        check_close(sums, head.column(1), bound<T>, "dg");
    }
}

TEST_CASE("gated delta rule by channels, backward: central differences in double",
          "[kernels][delta_rule]") {
    ChannelDecayCase<double> c(19, 4, 5, 17, -1.0);
    for (Index t = 0; t < c.N; ++t) c.g(t, 2) = t % 3 == 0 ? 0.0 : c.g(t, 2);  // α = 1
    const auto dout = random_values<double>(c.N * c.V, 1), dstate = random_values<double>(20, 2);
    const auto loss = [&] {
        std::vector<double> state = c.state, out(dout.size());
        kernels::gated_delta_reference(c.input(), MatrixView<double>(state.data(), c.D, c.V),
                                       MatrixView<double>(out.data(), c.N, c.V));
        return std::inner_product(
            out.begin(), out.end(), dout.begin(),
            std::inner_product(state.begin(), state.end(), dstate.begin(), 0.0));
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
    std::vector<double> qkv, g, beta, state;
    for (Index t = 0; t < c.N; ++t) {
        for (Index i = 0; i < 2 * c.D + c.V; ++i)
            qkv.push_back(
                derivative(c.qkv[static_cast<std::size_t>(1 + t * (2 * c.D + c.V + 1) + i)]));
        for (Index i = 0; i < c.D; ++i) g.push_back(derivative(c.g(t, i)));
    }
    for (double& x : c.betas) beta.push_back(derivative(x));
    for (double& x : c.state) state.push_back(derivative(x));
    for (auto found : {oracle(c, dout, dstate), chunks<16>(c, dout, dstate)}) {
        std::vector<double> of_tokens;
        for (Index t = 0; t < c.N; ++t)
            for (const auto& rows : {found.views().q, found.views().k, found.views().v})
                of_tokens.insert(of_tokens.end(), rows.row(t), rows.row(t) + rows.cols());
        check_close(of_tokens, qkv, 1e-8, "dq, dk, dv");
        check_close(found.dense(found.g, c.D), g, 1e-8, "dg");
        check_close(found.column(0), beta, 1e-8, "dbeta");
        check_close(found.state, state, 1e-8, "dS");
    }
}
