// The forward forms of the gated delta rule against golden vectors, the reference and each other.
#include <array>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/delta_rule_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double golden_bound = sizeof(T) == 4 ? 2e-4 : 1e-9;
template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-5 : 1e-12;

template <class T, Index D>
const auto reference = [](const auto& input, auto state, auto out) {
    kernels::gated_delta_reference<T, D>(input, state, out);
};
template <class T, Index D>
const auto recurrent = [](const auto& input, auto state, auto out) {
    kernels::gated_delta_recurrent<T, D>(input, state, out);
};

template <class T, Index D, class F>
void check_golden(const std::string& name, const F& form) {
    const GoldenFile file = read_golden("delta_rule/" + name);
    for (Index h = 0; h < file["q"].shape[0]; ++h) {
        const DeltaRuleCase<T, D> c(file, h);
        const auto result = run(c, form);
        check_close(result.out, c.golden(file, "out", h, c.N * D), golden_bound<T>, name + " out");
        check_close(result.state, DeltaRuleCase<double, D>::golden_state(file, "final_state", h),
                    golden_bound<T>, name + " state");
    }
}

// Every width in two sizes of block, every size at two widths; one of them begun within a block.
template <class T, Index D, Index Block, Index Begun>
void check_golden_forms(const std::string& name) {
    check_golden<T, D>(name, reference<T, D>);
    check_golden<T, D>(name, recurrent<T, D>);
    check_golden<T, D>(name, chunkwise<Block, T, D>());
    check_golden<T, D>(name, chunkwise<Begun, T, D>(3));
}

template <class T>
void check_all_golden() {
    check_golden_forms<T, 16, 8, 64>("d16_n7.safetensors");
    check_golden_forms<T, 32, 16, 32>("d32_n64_state.safetensors");
    check_golden_forms<T, 64, 64, 8>("d64_n100_state.safetensors");
    check_golden_forms<T, 128, 32, 16>("d128_n33.safetensors");
}

template <class T, Index D, class F>
void check_against_reference(const DeltaRuleCase<T, D>& c, const F& form, const std::string& what) {
    const auto expected = run(c, reference<T, D>);
    const auto actual = run(c, form);
    check_close(actual.out, expected.out, bound<T>, what + " out, " + c.where());
    check_close(actual.state, expected.state, bound<T>, what + " state, " + c.where());
}

template <class T, Index D, Index Block>
void sweep() {
    for (const Index N : {Index(0), Index(1), Block - 1, Block, Block + 1, 3 * Block + 5}) {
        const DeltaRuleCase<T, D> c(N, static_cast<std::uint64_t>(100 * D + N), -0.5, N % 2 == 1);
        check_against_reference(c, recurrent<T, D>, "recurrent");
        check_against_reference(c, chunkwise<Block, T, D>(), "chunkwise");
        check_against_reference(c, chunkwise<Block, T, D>(3),
                                "chunkwise from the middle of a block");
    }
}

template <class T>
void sweep_all() {
    sweep<T, 4, 8>();
    sweep<T, 16, 8>();
    sweep<T, 20, 16>();
    sweep<T, 36, 4>();
    sweep<T, 64, 8>();
    sweep<T, 64, 64>();
    sweep<T, 96, 32>();
}

template <class T, Index D, Index Block>
void check_extreme_gates() {
    const T smallest = static_cast<T>(std::log(1e-30));
    for (int kind = 0; kind < 4; ++kind) {
        DeltaRuleCase<T, D> c(3 * Block + 5, static_cast<std::uint64_t>(kind), -0.1, true);
        for (Index t = 0; t < c.N; ++t) {
            if (kind == 0) c.g(t) = smallest;                           // whole chunks
            if (kind == 1 && t % Block < Block / 2) c.g(t) = smallest;  // half of every chunk
            if (kind == 2 && t % 3 == 1)
                c.g(t) = -std::numeric_limits<T>::infinity();  // α = 0, now and then
            if (kind == 3) c.g(t) = -std::numeric_limits<T>::infinity();
        }
        check_against_reference(c, recurrent<T, D>, "recurrent, gates " + std::to_string(kind));
        check_against_reference(c, chunkwise<Block, T, D>(),
                                "chunkwise, gates " + std::to_string(kind));
    }
}

// Resets where a block begins and ends, side by side, and over most of a block; what follows them
// is neither lost in the sum of what was forgotten nor touched by it.
template <class T, Index D, Index Block>
void check_resets() {
    const T never = -std::numeric_limits<T>::infinity();
    const std::vector<std::vector<Index>> resets{{0},
                                                 {Block - 1},
                                                 {Block},
                                                 {0, Block - 1, Block, Block + 1},
                                                 {2, 3, Block + 2, 2 * Block - 1}};
    const auto check = [](const DeltaRuleCase<T, D>& c, const std::string& what) {
        check_against_reference(c, recurrent<T, D>, "recurrent, " + what);
        check_against_reference(c, chunkwise<Block, T, D>(), "chunkwise, " + what);
        check_against_reference(c, chunkwise<Block, T, D>(3), "chunkwise from within, " + what);
    };
    for (const auto& at : resets) {
        DeltaRuleCase<T, D> c(2 * Block + 3, static_cast<std::uint64_t>(at.size()), -0.3, true);
        for (const Index t : at) c.g(t) = never;
        check(c, "resets from " + std::to_string(at.front()));
        // Before the update of a reset the memory is zero: whatever was before changes nothing.
        const Index first = at.front();
        auto other = c;
        for (T& s : other.state) s = T(5) - s;
        for (Index t = 0; t < first; ++t) other.at(t, 2, 0) += T(1);
        const auto a = run(c, chunkwise<Block, T, D>()), b = run(other, chunkwise<Block, T, D>());
        CHECK(a.state == b.state);
        CHECK(std::equal(a.out.begin() + first * D, a.out.end(), b.out.begin() + first * D));
    }
    DeltaRuleCase<T, D> most(Block, 9, -0.3, true);
    for (Index t = 0; t < Block - 3; ++t) most.g(t) = never;
    check(most, "resets but for three tokens");
    DeltaRuleCase<T, D> tiny(2 * Block, 10, -0.3, true);  // α = e^g underflows without being 0
    for (Index t = 0; t < tiny.N; t += 3) tiny.g(t) = t % 2 == 0 ? T(-800) : T(-1e30);
    check(tiny, "gates that underflow");
}

template <class T, Index D, Index Block>
void check_split() {
    const DeltaRuleCase<T, D> c(3 * Block + 5, 7, -0.3, true);
    const auto whole = run(c, chunkwise<Block, T, D>(5));
    for (const Index cut : {Index(1), Index(5), Index(5) + Block, Index(7) + Block}) {
        const auto parts = run(c, [&](const auto& input, auto state, auto out) {
            const Index phase = (Block - 5 + cut) % Block;
            chunkwise<Block, T, D>(5)(input.middle(0, cut), state, out.middle_rows(0, cut));
            chunkwise<Block, T, D>(Block - phase)(input.middle(cut, c.N - cut), state,
                                                  out.middle_rows(cut, c.N - cut));
        });
        INFO("cut after " << cut << " tokens, " << c.where());
        if (cut % Block == 5) {  // on a block boundary: bit for bit
            CHECK(parts.out == whole.out);
            CHECK(parts.state == whole.state);
        }
        check_close(parts.out, whole.out, bound<T>, "split out");
        check_close(parts.state, whole.state, bound<T>, "split state");
    }
}

// A run is an affine map of the state, in both forms, and two runs are one.
template <class T, Index D, Index Block>
void check_transition(const DeltaRuleCase<T, D>& c) {
    using Map = std::vector<T>;
    constexpr auto size = static_cast<std::size_t>(D * D);
    Map identity(size, T(0));
    for (Index i = 0; i < D; ++i) identity[static_cast<std::size_t>(i * D + i)] = T(1);
    const auto fast = [&](const auto& input, MatrixView<T, D> map, Index first_block) {
        AlignedBuffer<std::byte> bytes(kernels::gated_delta_workspace_bytes<T, D>(Block));
        Map unused(static_cast<std::size_t>(input.tokens() * D));
        Arena arena(bytes.span());
        kernels::gated_delta_transition<Block>(
            input, map, MatrixView<T, D>(unused.data(), input.tokens()), first_block, arena);
    };
    auto silent = c;  // values play no part
    for (Index t = 0; t < c.N; ++t)
        for (Index i = 0; i < D; ++i)
            silent.at(t, 2, i) = silent.at(t, 0, i) = std::numeric_limits<T>::quiet_NaN();
    Map expected = identity, map = identity;
    kernels::gated_delta_transition_reference(silent.input(), MatrixView<T, D>(expected.data(), D));
    for (Index t = 0; t < c.N; ++t)
        for (Index i = 0; i < D; ++i) silent.at(t, 0, i) = T(1);
    const Index cut = c.N / 3;
    fast(silent.input().middle(0, cut), MatrixView<T, D>(map.data(), D), 3);
    fast(silent.input().middle(cut, c.N - cut), MatrixView<T, D>(map.data(), D), Block);
    check_close(map, expected, bound<T>, "map, " + c.where());

    auto from_zero = c;
    std::fill(from_zero.state.begin(), from_zero.state.end(), T(0));
    auto state = run(from_zero, chunkwise<Block, T, D>()).state;
    kernels::gated_delta_carry<T, D>(MatrixView<const T, D>(map.data(), D),
                                     MatrixView<const T, D>(c.state.data(), D),
                                     MatrixView<T, D>(state.data(), D));
    check_close(state, run(c, reference<T, D>).state, 2 * bound<T>, "carried, " + c.where());
}

template <class T, Index D, Index Block>
void sweep_transitions() {
    for (const Index N : {Index(0), Index(1), Block - 1, Block, Block + 1, 3 * Block + 5}) {
        DeltaRuleCase<T, D> c(N, static_cast<std::uint64_t>(D + N), -0.3, true);
        check_transition<T, D, Block>(c);
        for (Index t = 0; t < N; ++t)
            if (t % 3 == 1) c.g(t) = t == 7 ? -std::numeric_limits<T>::infinity() : T(-60);
        check_transition<T, D, Block>(c);
    }
}

// Keys of D numbers and values of V, which only the views know: against the reference, and the
// square of them against the form whose type knows it.
template <class T>
void check_widths(Index D, Index V, Index N) {
    Random random(static_cast<std::uint64_t>(1000 * D + V));
    const auto draw = [&](Index n, double scale) {
        std::vector<T> x(static_cast<std::size_t>(n));
        for (T& value : x) value = static_cast<T>(scale * random.normal());
        return x;
    };
    const double unit = 1 / std::sqrt(static_cast<double>(D));
    const auto q = draw(N * D, unit), k = draw(N * D, unit), v = draw(N * (V + 1), 1);
    auto g = draw(N, 0.3), beta = draw(N, 0.5);
    for (T& x : g) x = -std::abs(x);
    for (T& x : beta) x = std::min(std::abs(x), T(2));
    const auto begun = draw(D * V, 1);
    const kernels::GatedDeltaInput<T, dynamic> input{{q.data(), N, D},
                                                     {k.data(), N, D},
                                                     {v.data() + 1, N, V, V + 1},
                                                     {g.data(), N},
                                                     {beta.data(), N}};
    const auto run_form = [&](const auto& form) {
        DeltaRuleResult<T> result{
            std::vector<T>(static_cast<std::size_t>(N * V), std::numeric_limits<T>::quiet_NaN()),
            begun};
        form(MatrixView<T>(result.state.data(), D, V), MatrixView<T>(result.out.data(), N, V));
        return result;
    };
    const auto expected = run_form([&](auto state, auto out) {
        kernels::gated_delta_reference<T, dynamic, dynamic>(input, state, out);
    });
    const auto check = [&](const auto& result, const std::string& form) {
        const std::string where =
            form + ", D = " + std::to_string(D) + ", V = " + std::to_string(V);
        check_close(result.out, expected.out, bound<T>, where + " out");
        check_close(result.state, expected.state, bound<T>, where + " state");
    };
    check(run_form([&](auto state, auto out) {
              kernels::gated_delta_recurrent<T, dynamic, dynamic>(input, state, out);
          }),
          "recurrent");
    check(run_form([&](auto state, auto out) {
              AlignedBuffer<std::byte> bytes(
                  kernels::gated_delta_workspace_bytes<T, dynamic>(8, D, V));
              std::fill(bytes.begin(), bytes.end(), std::byte{0xff});  // NaN
              Arena arena(bytes.span());
              kernels::gated_delta_chunkwise<8, T, dynamic, dynamic>(input, state, out, 3, arena);
          }),
          "chunkwise");
}

}  // namespace

TEST_CASE("gated delta rule: keys and values of other widths than each other",
          "[kernels][delta_rule]") {
    const auto sweep_widths = [](auto zero) {
        using T = decltype(zero);
        for (const auto& [D, V] :
             {std::array<Index, 2>{16, 24}, {12, 24}, {8, 16}, {16, 8}, {96, 192}, {128, 4}})
            for (const Index N : {1, 8, 21}) check_widths<T>(D, V, N);
    };
    sweep_widths(0.0F);
    sweep_widths(0.0);
}

TEST_CASE("gated delta rule: golden vectors in float", "[kernels][delta_rule]") {
    check_all_golden<float>();
}
TEST_CASE("gated delta rule: golden vectors in double", "[kernels][delta_rule]") {
    check_all_golden<double>();
}

TEST_CASE("gated delta rule: lengths and widths in float", "[kernels][delta_rule]") {
    sweep_all<float>();
}
TEST_CASE("gated delta rule: lengths and widths in double", "[kernels][delta_rule]") {
    sweep_all<double>();
}

TEST_CASE("gated delta rule: decay down to nothing stays exact", "[kernels][delta_rule]") {
    check_extreme_gates<float, 64, 8>();
    check_extreme_gates<float, 16, 64>();
    check_extreme_gates<double, 32, 16>();
    check_extreme_gates<double, 64, 64>();
}

TEST_CASE("gated delta rule: a token with alpha 0 begins anew", "[kernels][delta_rule]") {
    check_resets<float, 64, 8>();
    check_resets<float, 20, 16>();
    check_resets<double, 32, 8>();
    check_resets<double, 16, 64>();
}

TEST_CASE("gated delta rule: identical keys with beta 1", "[kernels][delta_rule]") {
    DeltaRuleCase<float, 64> c(64, 3, -0.0, false);
    for (Index t = 0; t < c.N; ++t) {
        for (Index i = 0; i < 64; ++i) {
            c.at(t, 0, i) = i == 5 ? 1.0F : 0.0F;
            c.at(t, 1, i) = i == 5 ? 1.0F : 0.0F;
        }
        c.g(t) = 0;
        c.beta(t) = 1;
    }
    const auto result = run(c, chunkwise<64, float, 64>());
    for (Index t = 0; t < c.N;
         ++t)  // the last value written is the one recalled, exactly but for cancellation
        for (Index i = 0; i < 64; ++i)
            CHECK(result.out[static_cast<std::size_t>(t * 64 + i)] ==
                  Approx(c.at(t, 2, i)).margin(1e-5));
}

TEST_CASE("gated delta rule: a cut stream is the whole stream", "[kernels][delta_rule]") {
    check_split<float, 64, 8>();
    check_split<float, 32, 16>();
    check_split<double, 20, 8>();
}

TEST_CASE("gated delta rule: step and recurrent have the same bits", "[kernels][delta_rule]") {
    const DeltaRuleCase<float, 64> c(9, 5, -0.2, true);
    const auto whole = run(c, recurrent<float, 64>);
    const auto steps = run(c, [](const auto& input, auto state, auto out) {
        for (Index t = 0; t < input.tokens(); ++t)
            kernels::gated_delta_step<float, 64>(input.q.row(t), input.k.row(t), input.v.row(t),
                                                 input.log_decay[t], input.beta[t], state,
                                                 out.row(t));
    });
    CHECK(whole.out == steps.out);
    CHECK(whole.state == steps.state);
}

TEST_CASE("gated delta rule: the future changes no past", "[kernels][delta_rule]") {
    DeltaRuleCase<float, 64> c(21, 5, -0.2, true);
    const auto before = run(c, chunkwise<8, float, 64>());
    for (Index t = 13; t < c.N; ++t) {
        for (Index i = 0; i < 64; ++i)
            for (Index part = 0; part < 3; ++part) c.at(t, part, i) = 1e30F;
        c.g(t) = -50;
    }
    const auto after = run(c, chunkwise<8, float, 64>());
    CHECK(std::vector<float>(before.out.begin(), before.out.begin() + 13 * 64) ==
          std::vector<float>(after.out.begin(), after.out.begin() + 13 * 64));
}

TEST_CASE("gated delta rule: a run is an affine map of the state", "[kernels][delta_rule]") {
    sweep_transitions<float, 64, 8>();
    sweep_transitions<float, 20, 16>();
    sweep_transitions<double, 32, 16>();
    sweep_transitions<double, 20, 8>();
}

TEST_CASE("gated delta rule: checkpoints are the states between", "[kernels][delta_rule]") {
    const DeltaRuleCase<double, 16> c(37, 8, -0.2, true);
    std::vector<double> kept(3 * 16 * 16);
    const auto result = run(c, [&](const auto& input, auto state, auto out) {
        AlignedBuffer<std::byte> bytes(kernels::gated_delta_workspace_bytes<double, 16>(8));
        Arena arena(bytes.span());
        kernels::gated_delta_chunkwise<8>(input, state, out, 8, arena, {kept.data(), 16});
    });
    check_close(std::vector<double>(kept.begin(), kept.begin() + 256), c.state, 0, "checkpoint 0");
    for (const Index t : {16, 32}) {
        const auto part = run(c, [&](const auto& input, auto state, auto out) {
            kernels::gated_delta_reference<double, 16>(input.middle(0, t), state,
                                                       out.middle_rows(0, t));
        });
        check_close(std::vector<double>(kept.begin() + t * 16, kept.begin() + (t + 16) * 16),
                    part.state, 1e-12, "checkpoint");
    }
    check_close(result.out, run(c, reference<double, 16>).out, 1e-12, "output beside checkpoints");
}
