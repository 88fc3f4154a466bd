// A mixer with storage of its own has the bits of the layer it wraps, wherever its tiles end.
#include "hydralm/model/standalone.hpp"

#include <limits>
#include <vector>

#include "hydralm/layers/gated_delta_net.hpp"
#include "hydralm/layers/sliding_window_attention.hpp"
#include "support/catch.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index d = 20;

template <class Mixer>
struct Alone {
    using T = typename Mixer::Scalar;

    Alone(Mixer mixer, const NamedValues& tensors) : module(mixer) {
        module.set_parameters([&](const ParameterInfo& info, std::span<T> values) {
            const Values& given = tensors.at(std::string(info.name()));
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(given[i]);
        });
    }
    std::vector<T> forward(std::span<const Values> rows, typename Standalone<Mixer>::State& state,
                           Form form = Form::parallel) const {
        StridedRows<T> x(rows, d),
            y(static_cast<Index>(rows.size()), d, std::numeric_limits<T>::quiet_NaN());
        module.forward(x.view(), y.view(), state, form);
        CHECK(y.gaps_untouched());
        return y.dense();
    }

    Standalone<Mixer> module;
};

template <class Mixer>
void check(Mixer mixer) {
    using T = typename Mixer::Scalar;
    const auto tensors = random_tensors(mixer, 1);
    const auto rows = random_rows(600, d, 1);
    const Alone<Mixer> alone(mixer, tensors);
    const std::span<const Values> all(rows);

    // One tile, then whole texts of several.
    auto state = alone.module.new_state();
    LayerCase<Mixer> layer(mixer, tensors);
    CHECK(same_bits(alone.forward(all.first(256), state),
                    layer.forward(all.first(256), Form::parallel)));
    CHECK(same_bits(state.bytes(), layer.memory().bytes()));
    auto whole = alone.module.new_state(), cut = alone.module.new_state();
    const auto expected = alone.forward(all, whole);
    auto pieces = alone.forward(all.first(512), cut);
    const auto rest = alone.forward(all.subspan(512), cut);
    pieces.insert(pieces.end(), rest.begin(), rest.end());
    CHECK(same_bits(pieces, expected));
    CHECK(same_bits(cut.bytes(), whole.bytes()));
    CHECK(cut.position() == 600);

    // Steps are the recurrent form.
    auto recurrent = alone.module.new_state(), stepped = alone.module.new_state(1);
    const auto by_form = alone.forward(all.first(50), recurrent, Form::recurrent);
    std::vector<T> by_step;
    for (std::size_t n = 0; n < 50; ++n) {
        const std::vector<T> x(rows[n].begin(), rows[n].end());
        std::vector<T> y(d);
        alone.module.step(x, y, stepped);
        by_step.insert(by_step.end(), y.begin(), y.end());
    }
    CHECK(same_bits(by_step, by_form));
    CHECK(same_bits(stepped.bytes(), recurrent.bytes()));
}

}  // namespace

TEST_CASE("A mixer of its own has the bits of the layer", "[standalone]") {
    check(GatedDeltaNet<float, 12>({.d_model = d, .n_heads = 2}));
    check(SlidingWindowAttention<double, 12>({.d_model = d, .n_heads = 2, .window = 40}));
}
