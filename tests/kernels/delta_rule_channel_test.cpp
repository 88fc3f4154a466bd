// The gated delta rule with a decay for every key channel: its forms against the reference and each
// other, and against those of one decay where all channels agree.
#include <array>

#include "support/catch.hpp"
#include "support/channel_decay_case.hpp"
#include "support/compare.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-5 : 1e-12;

// form(input, state, out) from the state of the case; the output starts as NaN.
template <class T, class Input, class F>
DeltaRuleResult<T> run_form(const ChannelDecayCase<T>& c, const Input& input, const F& form) {
    DeltaRuleResult<T> result{
        std::vector<T>(static_cast<std::size_t>(c.N * c.V), std::numeric_limits<T>::quiet_NaN()),
        c.state};
    form(input, MatrixView<T>(result.state.data(), c.D, c.V),
         MatrixView<T>(result.out.data(), c.N, c.V));
    return result;
}

const auto reference = [](const auto& input, auto state, auto out) {
    kernels::gated_delta_reference(input, state, out);
};
const auto recurrent = [](const auto& input, auto state, auto out) {
    kernels::gated_delta_recurrent(input, state, out);
};
// In memory that is NaN before.
template <Index Block>
auto chunks(Index first = Block) {
    return [first]<class T>(const auto& input, MatrixView<T> state, MatrixView<T> out) {
        const Index D = state.rows(), V = state.cols();
        AlignedBuffer<std::byte> bytes(
            input.per_channel
                ? kernels::gated_delta_channel_workspace_bytes<T, dynamic>(Block, D, V)
                : kernels::gated_delta_workspace_bytes<T, dynamic>(Block, D, V));
        std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
        Arena arena(bytes.span());
        kernels::gated_delta_chunkwise<Block>(input, state, out, first, arena);
    };
}

template <class T>
void check_close_results(const DeltaRuleResult<T>& actual, const DeltaRuleResult<T>& expected,
                         const std::string& what) {
    check_close(actual.out, expected.out, bound<T>, what + ", out");
    check_close(actual.state, expected.state, bound<T>, what + ", state");
}

template <class T>
void check_forms(const ChannelDecayCase<T>& c, const std::string& what) {
    const auto expected = run_form(c, c.input(), reference);
    const auto check = [&](const auto& form, const std::string& name) {
        check_close_results(run_form(c, c.input(), form), expected,
                            name + ", " + what + ", " + c.where());
    };
    check(recurrent, "recurrent");
    check(chunks<8>(), "chunkwise");
    check(chunks<8>(3), "chunkwise from within a block");
    check(chunks<64>(), "chunkwise in blocks of 64");
}

template <class T>
void sweep() {
    constexpr std::array<std::array<Index, 2>, 9> widths{
        {{4, 4}, {8, 12}, {12, 8}, {16, 16}, {20, 36}, {36, 20}, {64, 64}, {128, 24}, {96, 100}}};
    for (const auto& [D, V] : widths)
        for (const Index N : {0, 1, 3, 7, 8, 9, 16, 29, 75})
            for (const double least : {-0.5, -8.0})
                check_forms(ChannelDecayCase<T>(N, D, V,
                                                static_cast<std::uint64_t>(100 * D + V + N), least),
                            "gates from " + std::to_string(least));
}

template <class T>
void check_extreme_gates() {
    for (int kind = 0; kind < extreme_gates; ++kind) {
        ChannelDecayCase<T> c(37, 20, 12, static_cast<std::uint64_t>(kind), -0.1);
        c.make_extreme(kind);
        check_forms(c, "extreme gates " + std::to_string(kind));
    }
}

}  // namespace

TEMPLATE_TEST_CASE("gated delta rule by channels: lengths and widths", "[kernels][delta_rule]",
                   float, double) {
    sweep<TestType>();
}

TEMPLATE_TEST_CASE("gated delta rule by channels: decay down to nothing stays exact",
                   "[kernels][delta_rule]", float, double) {
    check_extreme_gates<TestType>();
}

TEMPLATE_TEST_CASE("gated delta rule by channels: equal channels are one decay",
                   "[kernels][delta_rule]", float, double) {
    using T = TestType;
    for (const double least : {-0.3, -30.0}) {
        ChannelDecayCase<T> c(29, 36, 20, 5, least);
        for (Index t = 0; t < c.N; ++t) {
            if (t % 11 == 6) c.g(t, 0) = never<T>;
            for (Index i = 1; i < c.D; ++i) c.g(t, i) = c.g(t, 0);
        }
        const auto check = [&](const auto& form, const std::string& name) {
            check_close_results(run_form(c, c.input(), form), run_form(c, c.of_head(), form), name);
        };
        check(reference, "reference");
        check(recurrent, "recurrent");
        check(chunks<8>(), "chunkwise");
        check(chunks<64>(5), "chunkwise in blocks of 64");
    }
}

TEMPLATE_TEST_CASE("gated delta rule by channels: a cut stream is the whole stream",
                   "[kernels][delta_rule]", float, double) {
    using T = TestType;
    const ChannelDecayCase<T> c(29, 20, 24, 7, -0.3);
    const auto whole = run_form(c, c.input(), chunks<8>(5));
    for (const Index cut : {1, 5, 8, 13, 15}) {
        const auto parts = run_form(c, c.input(), [&](const auto& input, auto state, auto out) {
            chunks<8>(5)(input.middle(0, cut), state, out.middle_rows(0, cut));
            chunks<8>(8 - (3 + cut) % 8)(input.middle(cut, c.N - cut), state,
                                         out.middle_rows(cut, c.N - cut));
        });
        if (cut % 8 == 5) {  // on a block boundary: bit for bit
            CHECK(parts.out == whole.out);
            CHECK(parts.state == whole.state);
        }
        check_close_results(parts, whole, "cut after " + std::to_string(cut));
    }
    const auto steps = run_form(c, c.input(), [](const auto& input, auto state, auto out) {
        for (Index t = 0; t < input.tokens(); ++t)
            kernels::gated_delta_step<T, dynamic, dynamic>(input.q.row(t), input.k.row(t),
                                                           input.v.row(t), input.log_decay.row(t),
                                                           input.beta[t], state, out.row(t));
    });
    const auto at_once = run_form(c, c.input(), recurrent);
    CHECK(steps.out == at_once.out);
    CHECK(steps.state == at_once.state);
}

// What a channel forgets at once changes nothing behind, not by a bit.
TEMPLATE_TEST_CASE("gated delta rule by channels: a channel begins anew by itself",
                   "[kernels][delta_rule]", float, double) {
    using T = TestType;
    ChannelDecayCase<T> c(19, 16, 20, 11, -0.2);
    for (const Index t : {0, 9}) c.g(t, 3) = never<T>;
    ChannelDecayCase<T> forgotten = c, kept = c;
    for (Index j = 0; j < c.V; ++j) {
        forgotten.state[static_cast<std::size_t>(3 * c.V + j)] = T(9);
        kept.state[static_cast<std::size_t>(4 * c.V + j)] = T(9);
    }
    const auto check = [&](const auto& form) {
        const auto a = run_form(c, c.input(), form);
        const auto b = run_form(forgotten, forgotten.input(), form);
        CHECK(a.state == b.state);
        CHECK(a.out == b.out);
        CHECK(a.out != run_form(kept, kept.input(), form).out);
    };
    check(reference);
    check(recurrent);
    check(chunks<8>());
}

TEST_CASE("gated delta rule by channels: widths that the type knows", "[kernels][delta_rule]") {
    const ChannelDecayCase<float> c(21, 64, 64, 3, -0.4);
    const auto expected = run_form(c, c.input(), reference);
    using Decay = kernels::ChannelDecay<float, 64>;
    const auto fixed = [](const auto& view) {
        return MatrixView<const float, 64>(view.data(), view.rows(), 64, view.stride());
    };
    const auto known = [&](const auto& form) {
        return run_form(c, c.input(), [&](const auto& input, auto state, auto out) {
            form(kernels::GatedDeltaInput<float, 64, 64, Decay>{fixed(input.q), fixed(input.k),
                                                                fixed(input.v),
                                                                fixed(input.log_decay), input.beta},
                 MatrixView<float, 64>(state.data(), 64), MatrixView<float, 64>(out.data(), c.N));
        });
    };
    check_close_results(known(recurrent), expected, "recurrent");
    check_close_results(known([](const auto& input, auto state, auto out) {
                            AlignedBuffer<std::byte> bytes(
                                kernels::gated_delta_channel_workspace_bytes<float, 64>());
                            Arena arena(bytes.span());
                            kernels::gated_delta_chunkwise(input, state, out, 3, arena);
                        }),
                        expected, "chunkwise");
}
