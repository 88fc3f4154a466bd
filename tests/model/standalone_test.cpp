// Standalone mixers: the forms agree, pieces equal the whole, and the errors at the boundary.
#include "hydralm/model/standalone.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/layers/full_attention.hpp"
#include "hydralm/layers/gated_delta_net.hpp"
#include "hydralm/layers/sliding_window_attention.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

template <class T, Index D>
using StaticDelta = GatedDeltaNet<T, D, 0, DeltaNetShape<24, 3>>;
template <class T, Index D>
using StaticWindow = SlidingWindowAttention<T, D, 0, WindowShape<24, 3, 19>>;
template <class T, Index D>
using StaticFull = FullAttention<T, D, 16, FullShape<24, 4, 2>>;

template <class Mixer>
void draw_parameters(Standalone<Mixer>& mixer, std::uint64_t seed) {
    using T = typename Mixer::Scalar;
    Random random(seed);
    mixer.set_parameters([&](const ParameterInfo& info, std::span<T> values) {
        const double range = 1.0 / std::sqrt(static_cast<double>(info.cols()));
        for (T& value : values) value = static_cast<T>(random.uniform(-range, range));
    });
}

template <class Mixer>
class Case {
public:
    using T = typename Mixer::Scalar;

    Case(Mixer kind, Index N) : mixer(kind), N_(N), x_(static_cast<std::size_t>(N * d)) {
        draw_parameters(mixer, 3);
        Random random(4);
        for (T& value : x_) value = static_cast<T>(random.normal());
    }

    // The output for pieces of at most `piece` tokens.
    std::vector<T> run(typename Standalone<Mixer>::State& state, Index piece,
                       Form form = Form::parallel) const {
        std::vector<T> y(x_.size(), std::numeric_limits<T>::quiet_NaN());
        const MatrixView<const T> in(x_.data(), N_, d);
        const MatrixView<T> out(y.data(), N_, d);
        for (Index first = 0; first < N_; first += piece) {
            const Index n = std::min(piece, N_ - first);
            mixer.forward(in.middle_rows(first, n), out.middle_rows(first, n), state, form);
        }
        return y;
    }
    std::vector<T> stepped(typename Standalone<Mixer>::State& state) const {
        std::vector<T> y(x_.size(), std::numeric_limits<T>::quiet_NaN());
        constexpr auto width = static_cast<std::size_t>(d);
        for (std::size_t i = 0; i < y.size(); i += width)
            mixer.step(std::span(x_).subspan(i, width), std::span(y).subspan(i, width), state);
        return y;
    }

    static constexpr Index d = 24;
    Standalone<Mixer> mixer;

private:
    Index N_;
    std::vector<T> x_;
};

template <class Mixer>
void check_forms(Mixer kind) {
    using T = typename Mixer::Scalar;
    constexpr double bound = sizeof(T) == 4 ? 1e-5 : 1e-12;
    for (const Index N : {0, 1, 63, 64, 65, 197}) {
        const std::string where = "N = " + std::to_string(N) + ", weights of seed 3";
        const Case<Mixer> test(kind, N);
        auto state = test.mixer.new_state();
        const auto whole = test.run(state, N + 1);
        CHECK(state.position() == N);
        for (const Index piece : {1, 7, 64}) {
            auto cut = test.mixer.new_state();
            check_close(test.run(cut, piece), whole, bound, where + ", pieces");
        }
        auto stepping = test.mixer.new_state(1), recurrent = test.mixer.new_state();
        const auto steps = test.stepped(stepping);
        check_close(steps, whole, bound, where + ", steps");
        CHECK(test.run(recurrent, N + 1, Form::recurrent) == steps);
        const auto copy = test.mixer.new_state(16);
        auto resumed = copy;
        CHECK(resumed.position() == 0);
        check_close(test.run(resumed, N + 1), whole, bound, where + ", tiles of 16");
    }
}

}  // namespace

TEST_CASE("a mixer alone: the forms agree", "[standalone]") {
    check_forms(StaticDelta<float, 8>());
    check_forms(StaticDelta<double, 8>());
    check_forms(StaticWindow<float, 8>());
    check_forms(StaticWindow<double, 8>());
    check_forms(StaticFull<float, 8>());
    check_forms(StaticFull<double, 8>());
}

TEST_CASE("a mixer alone: a run-time shape has the bits of the static one", "[standalone]") {
    const Case<StaticDelta<float, 8>> fixed({}, 100);
    using Runtime = GatedDeltaNet<float, 8, 0, RuntimeDeltaNetShape>;
    const Case<Runtime> read(Runtime({.d_model = 24, .n_heads = 3}), 100);
    auto a = fixed.mixer.new_state();
    auto b = read.mixer.new_state();
    CHECK(a.bytes().size() == b.bytes().size());
    CHECK(fixed.run(a, 100) == read.run(b, 100));
}

TEST_CASE("a mixer alone: parameters come back bit for bit, also after a move", "[standalone]") {
    Standalone<StaticDelta<float, 8>> source;
    draw_parameters(source, 5);
    std::vector<float> before, after;
    source.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        before.insert(before.end(), values.begin(), values.end());
    });
    const Standalone<StaticDelta<float, 8>> moved = std::move(source);
    moved.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        after.insert(after.end(), values.begin(), values.end());
    });
    CHECK(before.size() == 72 * 24 + 6 * 24 + 6 + 72 * 4 + 72 + 24 * 24 + 24 * 24);
    CHECK(before == after);
    auto state = moved.new_state();
    std::vector<float> x(24), y(24);
    CHECK_THROWS_AS(source.step(x, y, state), Error);
    CHECK_THROWS_AS(source.get_parameters([](const ParameterInfo&, auto) {}), Error);
    CHECK_THROWS_AS(source.set_parameters([](const ParameterInfo&, auto) {}), Error);
}

TEST_CASE("a mixer alone: wrong widths are refused, the state unchanged", "[standalone]") {
    const Standalone<StaticDelta<float, 8>> mixer;
    auto state = mixer.new_state();
    std::vector<float> x(64), y(64);
    CHECK_THROWS_WITH(
        mixer.forward(MatrixView<const float>(x.data(), 2, 23), MatrixView<float>(y.data(), 2, 24),
                      state),
        "hydralm: x and y: expected both [N, 24], found [2, 23] and [2, 24]; give views as "
        "wide as the mixer's d_model");
    CHECK_THROWS_AS(mixer.step(std::span(x).first(24), std::span(y).first(25), state), Error);
    CHECK(state.position() == 0);
}

TEST_CASE("a mixer alone: impossible run-time shapes are refused", "[standalone]") {
    using Full = FullAttention<float, 8>;
    CHECK_NOTHROW(Standalone<Full>(Full({.d_model = 24, .n_heads = 4})));
    CHECK_NOTHROW(Standalone<Full>(Full({.d_model = 24, .n_heads = 4, .n_kv_heads = 4})));
    for (const Index groups : {-1, 3, 8})
        CHECK_THROWS_WITH(
            Standalone<Full>(Full({.d_model = 24, .n_heads = 4, .n_kv_heads = groups})),
            "hydralm: n_kv_heads: expected a divisor of n_heads, 4, or 0 for as many, found " +
                std::to_string(groups) + "; give every group of keys and values as many heads");
    CHECK_THROWS_AS(Standalone<Full>(Full({.d_model = 24, .n_heads = 4, .rope_base = 0.0})), Error);
    CHECK_THROWS_AS(Standalone<Full>(Full({.d_model = 24})), Error);
    using Mlp = SwiGLU<float, RuntimeMlpShape>;
    CHECK_THROWS_WITH(Standalone<Mlp>(Mlp({.d_model = 16, .hidden = 0})),
                      Catch::Contains("hidden: expected a number above 0, found 0"));
}

TEST_CASE("a mixer alone: states of another shape, or moved from, are refused", "[standalone]") {
    using Mlp = SwiGLU<float, RuntimeMlpShape>;  // no bytes of state: only scratch
    const Standalone<Mlp> small(Mlp({.d_model = 16, .hidden = 32})),
        large(Mlp({.d_model = 16, .hidden = 3200}));
    std::vector<float> x(16, 1.0F), y(16);
    auto state = small.new_state();
    CHECK_NOTHROW(small.step(x, y, state));
    CHECK_THROWS_AS(large.step(x, y, state), Error);
    auto taken = std::move(state);
    CHECK_THROWS_WITH(small.step(x, y, state),  // NOLINT(bugprone-use-after-move)
                      Catch::Contains("found one that was moved from"));
    state = taken;
    CHECK_NOTHROW(small.step(x, y, state));
    CHECK(state.position() == 2);
}
