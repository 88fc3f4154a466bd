// Sliding-window attention against its reference, cut sequences, one token at a time, and
// gradients.
#include "hydralm/kernels/window_attention/window_attention.hpp"

#include <limits>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
std::vector<T> unset(Index n) {
    return std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN());
}

template <class T>
std::vector<T> normal(Index n, std::uint64_t seed, double scale = 1) {
    Random random(seed);
    std::vector<T> v(static_cast<std::size_t>(n));
    for (T& x : v) x = static_cast<T>(scale * random.normal());
    return v;
}

// q and out are slices of wider rows, one element off any alignment; keys and values of rows of D
// + 1.
template <Index D, class T>
struct Attention {
    static constexpr Index stride = D + 5;
    Index N, P, W;
    std::int64_t first_position;
    std::vector<T> q, keys, values, out, log_sum_exp;

    Attention(Index tokens, Index past, Index window, std::int64_t first, double scale = 1)
        : N(tokens),
          P(past),
          W(window),
          first_position(first),
          q(normal<T>(N * stride + 1, 1, scale)),
          keys(normal<T>((P + N) * (D + 1), 2, scale)),
          values(normal<T>((P + N) * (D + 1), 3)),
          out(unset<T>(N * stride + 1)),
          log_sum_exp(unset<T>(N)) {}

    MatrixView<const T> q_view() const { return {q.data() + 1, N, D, stride}; }
    MatrixView<const T> key_view() const { return {keys.data(), P + N, D, D + 1}; }
    MatrixView<const T> value_view() const { return {values.data(), P + N, D, D + 1}; }
    MatrixView<T> out_view() { return {out.data() + 1, N, D, stride}; }

    std::vector<T> result() const {
        std::vector<T> rows;
        for (Index i = 0; i < N; ++i)
            for (Index d = 0; d < D; ++d)
                rows.push_back(out[static_cast<std::size_t>(1 + i * stride + d)]);
        return rows;
    }
    // Queries [begin, end), as a call of their own, in tiles of Tile.
    template <Index Tile = 0>
    void run(Index begin, Index end) {
        AlignedBuffer<std::byte> buffer(kernels::window_attention_workspace_bytes<T, D, Tile>());
        Arena arena(buffer.span());
        const Index oldest = std::max<Index>(0, P + begin - W + 1);
        kernels::window_attention<D, Tile>(
            q_view().middle_rows(begin, end - begin),
            key_view().middle_rows(oldest, P + end - oldest),
            value_view().middle_rows(oldest, P + end - oldest), W, first_position + begin,
            out_view().middle_rows(begin, end - begin), arena, log_sum_exp.data() + begin);
        CHECK(arena.used() == 0);
    }
    template <Index Tile = 0>
    std::vector<T> whole() {
        run<Tile>(0, N);
        return result();
    }
    std::string where() const {
        return "D " + std::to_string(D) + " N " + std::to_string(N) + " P " + std::to_string(P) +
               " W " + std::to_string(W) + " first " + std::to_string(first_position);
    }
};

// The same inputs in double, through the reference.
template <Index D, class T>
struct Expected {
    std::vector<double> out, log_sum_exp;

    explicit Expected(const Attention<D, T>& a)
        : out(unset<double>(a.N * D)), log_sum_exp(unset<double>(a.N)) {
        const std::vector<double> q(a.q.begin(), a.q.end()), k(a.keys.begin(), a.keys.end()),
            v(a.values.begin(), a.values.end());
        kernels::window_attention_reference<double>(
            {q.data() + 1, a.N, D, a.stride}, {k.data(), a.P + a.N, D, D + 1},
            {v.data(), a.P + a.N, D, D + 1}, a.W, {out.data(), a.N, D}, log_sum_exp.data());
    }
};

template <Index D, class T>
void check(Attention<D, T> a, double bound) {
    const Expected<D, T> expected(a);
    check_close(a.whole(), expected.out, bound, a.where());
    check_close(a.log_sum_exp, expected.log_sum_exp, bound, a.where() + " log_sum_exp");
}

template <class T>
constexpr double bound = sizeof(T) == 4 ? 4e-6 : 1e-14;

// Every N and W at one D, the corners at the others: the reference is slow.
template <Index D, class T>
void sweep() {
    const bool all = D == 16;
    for (const Index N : {0, 1, 7, 63, 64, 65, 255, 256, 257, 600})
        for (const Index W : {1, 5, 64, 100, 512, 10000}) {
            if (!all && (N == 63 || N > 64) && (N != 257 || W != 100)) continue;
            check(Attention<D, T>(N, 0, W, 0), bound<T>);
            const Index past = std::min<Index>(W - 1, 300);
            if (past > 0 && (all || N < 100))
                check(Attention<D, T>(N, past, W, 1'000'000'007), bound<T>);
        }
}

template <Index D, class T>
void check_step(Index tokens, Index W) {
    Attention<D, T> a(tokens, 0, W, 0);
    a.run(0, tokens);
    const Index count = std::min(tokens, W);
    std::vector<T> ring_keys(static_cast<std::size_t>(W * D)), ring_values = ring_keys;
    for (Index t = 0; t < tokens; ++t)
        for (Index d = 0; d < D; ++d) {
            ring_keys[static_cast<std::size_t>(t % W * D + d)] = a.key_view()(t, d);
            ring_values[static_cast<std::size_t>(t % W * D + d)] = a.value_view()(t, d);
        }
    auto out = unset<T>(D);
    kernels::window_attention_step<D>(
        a.q_view().row(tokens - 1), MatrixView<const T>(ring_keys.data(), W, D),
        MatrixView<const T>(ring_values.data(), W, D), count, out.data());
    const auto rows = a.result();
    check_close(out, std::vector<T>(rows.end() - D, rows.end()), 2 * bound<T>, a.where() + " step");
}

}  // namespace

TEMPLATE_TEST_CASE("windowed attention matches its reference", "[window_attention]", float,
                   double) {
    sweep<4, TestType>();
    sweep<12, TestType>();
    sweep<16, TestType>();
    sweep<32, TestType>();
    sweep<64, TestType>();
    sweep<128, TestType>();
}

TEMPLATE_TEST_CASE("windowed attention of a cut sequence has the same bits", "[window_attention]",
                   float, double) {
    for (const Index W : {1, 5, 100, 512, 10000})
        for (const std::int64_t first : {0, 300}) {
            Attention<32, TestType> a(600, first > 0 ? std::min<Index>(W - 1, first) : 0, W, first);
            const auto whole = a.whole();
            const auto levels = a.log_sum_exp;
            for (const Index cut : {1, 7, 64, 100, 256, 512, 599}) {
                a.out = unset<TestType>(static_cast<Index>(a.out.size()));
                a.run(0, cut);
                a.run(cut, 600);
                INFO(a.where() << " cut " << cut);
                CHECK(a.result() == whole);
                CHECK(a.log_sum_exp == levels);
            }
        }
}

TEMPLATE_TEST_CASE("windowed attention has the same bits in every tile of queries",
                   "[window_attention]", float, double) {
    for (const Index N : {1, 15, 16, 49, 300})
        for (const Index W : {1, 5, 100, 10000}) {
            Attention<16, TestType> a(N, std::min<Index>(W - 1, 70), W, 70);
            const auto expected = a.whole();
            const auto levels = a.log_sum_exp;
            INFO(a.where());
            const auto check = [&](const auto& out) {
                CHECK(out == expected);
                CHECK(a.log_sum_exp == levels);
            };
            check(a.template whole<16>());
            check(a.template whole<32>());
            check(a.template whole<48>());
            check(a.template whole<64>());
            check(a.template whole<128>());
        }
}

TEMPLATE_TEST_CASE("a window of all tokens is full attention, and the future changes no past",
                   "[window_attention]", float, double) {
    Attention<16, TestType> full(200, 0, 200, 0), wide(200, 0, 100'000, 0), changed(200, 0, 200, 0);
    const auto past = full.whole();
    CHECK(past == wide.whole());
    for (std::size_t i = 120 * 17; i < changed.keys.size(); ++i)
        changed.keys[i] = changed.values[i] = TestType(50);
    const auto other = changed.whole();
    CHECK(std::equal(past.begin(), past.begin() + 120 * 16, other.begin()));
}

TEMPLATE_TEST_CASE("windowed attention survives extreme scores", "[window_attention]", float,
                   double) {
    // Scores of size 1e4: the softmax is all but a choice. An error of |s| ULP in a score is the
    // format's own.
    for (const double sign : {1.0, -1.0}) {
        Attention<16, TestType> a(130, 0, 100, 0, 60);
        for (auto& x : a.q) x *= static_cast<TestType>(sign);
        check(a, sizeof(TestType) == 4 ? 2e-2 : 1e-10);
    }
    Attention<16, TestType> low(80, 0, 64, 0);
    for (auto& x : low.q) x = TestType(-50);
    for (auto& x : low.keys) x = TestType(50);
    check(low, 1e-5);
    for (auto& x : low.q) x = TestType(50);
    check(low, 1e-5);
}

TEMPLATE_TEST_CASE("one token against the ring gives the last row of prefill", "[window_attention]",
                   float, double) {
    for (const Index tokens : {1, 3, 63, 64, 65, 200, 257})
        for (const Index W : {1, 5, 64, 100, 512}) {
            check_step<4, TestType>(tokens, W);
            check_step<12, TestType>(tokens, W);
            check_step<32, TestType>(tokens, W);
            check_step<64, TestType>(tokens, W);
            check_step<128, TestType>(tokens, W);
        }
}

namespace {

template <Index D, class T>
struct Gradients {
    std::vector<T> dq, dkeys, dvalues;
    explicit Gradients(const Attention<D, T>& a)
        : dq(unset<T>(a.N * D)), dkeys(unset<T>((a.P + a.N) * D)), dvalues(dkeys) {}
};

template <Index D, class T, Index Tile = 0>
void check_gradients(Index N, Index P, Index W, double limit, double scale = 1) {
    Attention<D, T> a(N, P, W, P, scale);
    a.template run<Tile>(0, N);
    const auto dout = normal<T>(N * D, 4);
    const MatrixView<const T> dout_view(dout.data(), N, D), out = a.out_view();
    AlignedBuffer<std::byte> buffer(
        kernels::window_attention_backward_workspace_bytes<T, D, Tile>());
    Arena arena(buffer.span());
    Gradients<D, T> fast(a), slow(a);
    kernels::window_attention_backward<D, Tile>(
        a.q_view(), a.key_view(), a.value_view(), W, P, out, a.log_sum_exp.data(), dout_view,
        MatrixView<T>(fast.dq.data(), N, D), MatrixView<T>(fast.dkeys.data(), P + N, D),
        MatrixView<T>(fast.dvalues.data(), P + N, D), arena);
    kernels::window_attention_backward_reference<T>(
        a.q_view(), a.key_view(), a.value_view(), W, out, a.log_sum_exp.data(), dout_view,
        {slow.dq.data(), N, D}, {slow.dkeys.data(), P + N, D}, {slow.dvalues.data(), P + N, D});
    check_close(fast.dq, slow.dq, limit, a.where() + " dq");
    check_close(fast.dkeys, slow.dkeys, limit, a.where() + " dkeys");
    check_close(fast.dvalues, slow.dvalues, limit, a.where() + " dvalues");
}

template <Index D, class T>
void sweep_gradients() {
    for (const Index N : {0, 1, 7, 64, 65, 200})
        for (const Index W : {2, 5, 100, 10000}) {
            const double limit = sizeof(T) == 4 ? 2e-5 : 1e-12;
            check_gradients<D, T>(N, 0, W, limit);
            check_gradients<D, T>(N, std::min<Index>(W - 1, 70), W, limit);
        }
}

}  // namespace

TEMPLATE_TEST_CASE("gradients of windowed attention match their reference", "[window_attention]",
                   float, double) {
    sweep_gradients<4, TestType>();
    sweep_gradients<12, TestType>();
    sweep_gradients<32, TestType>();
    sweep_gradients<64, TestType>();
    // Scores in the hundreds: what a query does not see lies far above what it does.
    check_gradients<16, TestType>(150, 4, 5, sizeof(TestType) == 4 ? 2e-3 : 1e-10, 12);
}

TEMPLATE_TEST_CASE("gradients of windowed attention match in every tile", "[window_attention]",
                   float, double) {
    const double limit = sizeof(TestType) == 4 ? 2e-5 : 1e-12;
    for (const Index W : {5, 100}) {
        check_gradients<16, TestType, 16>(200, 0, W, limit);
        check_gradients<16, TestType, 48>(200, 0, W, limit);
        check_gradients<16, TestType, 128>(200, 4, W, limit);
    }
}

TEST_CASE("gradients of windowed attention: scores too large to tell apart show",
          "[window_attention]") {
    constexpr Index D = 16, N = 150;
    Attention<D, float> a(N, 0, 5, 0, 1e6);  // scores of 1e12, rounded to tens of thousands
    a.run(0, N);
    const auto dout = normal<float>(N * D, 4);
    AlignedBuffer<std::byte> buffer(kernels::window_attention_backward_workspace_bytes<float, D>());
    Arena arena(buffer.span());
    Gradients<D, float> g(a);
    kernels::window_attention_backward<D>(
        a.q_view(), a.key_view(), a.value_view(), 5, 0, a.out_view(), a.log_sum_exp.data(),
        MatrixView<const float>(dout.data(), N, D), MatrixView<float>(g.dq.data(), N, D),
        MatrixView<float>(g.dkeys.data(), N, D), MatrixView<float>(g.dvalues.data(), N, D), arena);
    CHECK(std::any_of(g.dq.begin(), g.dq.end(), [](float x) { return !std::isfinite(x); }));
}

TEST_CASE("gradients of windowed attention are central differences of its reference",
          "[window_attention]") {
    constexpr Index D = 8, N = 20, P = 6, W = 9;
    Attention<D, double> a(N, P, W, P);
    a.run(0, N);
    const auto dout = normal<double>(N * D, 4);
    AlignedBuffer<std::byte> buffer(
        kernels::window_attention_backward_workspace_bytes<double, D>());
    Arena arena(buffer.span());
    Gradients<D, double> g(a);
    kernels::window_attention_backward<D>(
        a.q_view(), a.key_view(), a.value_view(), W, P, a.out_view(), a.log_sum_exp.data(),
        MatrixView<const double>(dout.data(), N, D), MatrixView<double>(g.dq.data(), N, D),
        MatrixView<double>(g.dkeys.data(), P + N, D),
        MatrixView<double>(g.dvalues.data(), P + N, D), arena);
    const auto loss = [&] {
        const auto out = Expected<D, double>(a).out;
        double sum = 0;
        for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
        return sum;
    };
    const auto central = [&](std::vector<double>& x, Index rows, Index stride, Index offset) {
        std::vector<double> gradient;
        for (Index i = 0; i < rows; ++i)
            for (Index d = 0; d < D; ++d) {
                double& value = x[static_cast<std::size_t>(offset + i * stride + d)];
                const double kept = value, h = 1e-5;
                value = kept + h;
                const double up = loss();
                value = kept - h;
                const double down = loss();
                value = kept;
                gradient.push_back((up - down) / (2 * h));
            }
        return gradient;
    };
    check_close(g.dq, central(a.q, N, a.stride, 1), 1e-8, "dq");
    check_close(g.dkeys, central(a.keys, P + N, D + 1, 0), 1e-8, "dkeys");
    check_close(g.dvalues, central(a.values, P + N, D + 1, 0), 1e-8, "dvalues");
}
