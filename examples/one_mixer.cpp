// 2. One mixer in your own code: a Gated DeltaNet layer alone, without a model around it.
#include <hydralm/core/random.hpp>
#include <hydralm/layers/gated_delta_net.hpp>
#include <hydralm/model/standalone.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

using hydralm::Index;
using hydralm::MatrixView;
using hydralm::ParameterInfo;

int main() {
    // 4 heads of 32 on vectors of 128. The shape is part of the type; RuntimeDeltaNetShape takes it
    // from run-time numbers instead.
    using Mixer = hydralm::GatedDeltaNet<float, 32, 0, hydralm::DeltaNetShape<128, 4>>;
    constexpr Index N = 100, d = 128;

    // Your weights come from wherever you keep them; here they are drawn. The names and shapes are
    // those of a checkpoint.
    hydralm::Standalone<Mixer> mixer;
    hydralm::Random random(1);
    mixer.set_parameters([&](const ParameterInfo& info, std::span<float> values) {
        const double range = 1.0 / std::sqrt(static_cast<double>(info.cols()));
        for (float& value : values) value = static_cast<float>(random.uniform(-range, range));
        std::printf("%-24.*s %5td weights\n", static_cast<int>(info.name().size()),
                    info.name().data(), info.size());
    });

    std::vector<float> x(N * d), whole(N * d), steps(N * d);
    for (float& value : x) value = static_cast<float>(random.normal());

    // All tokens at once, in parallel over them ...
    auto state = mixer.new_state();
    mixer.forward(MatrixView<const float>(x.data(), N, d), MatrixView(whole.data(), N, d), state);

    // ... and one by one, as a stream arrives: the same numbers to rounding.
    auto stream = mixer.new_state();
    for (std::size_t n = 0; n < N; ++n)
        mixer.step(std::span(x).subspan(n * d, d), std::span(steps).subspan(n * d, d), stream);

    float largest = 0, difference = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        largest = std::max(largest, std::abs(whole[i]));
        difference = std::max(difference, std::abs(whole[i] - steps[i]));
    }
    const bool same = difference <= 1e-5F * largest;
    std::printf("%lld tokens, %zu bytes of state whatever their number\n",
                static_cast<long long>(state.position()), state.bytes().size());
    std::printf("parallel and step by step agree: %s\n", same ? "yes" : "no");
    return same ? 0 : 1;
}
