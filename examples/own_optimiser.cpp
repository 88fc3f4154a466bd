// 11. An optimiser of your own, one fused loop: Lion (Chen et al., arXiv 2302.06675) on a small
// regression.
#include <hydralm/core/random.hpp>
#include <hydralm/simd/expression.hpp>

#include <cstdio>
#include <vector>

using hydralm::Index;
using hydralm::RowView;
using hydralm::view;

// m and w change together: both right sides are computed from what was there before.
//   w ← w − rate (sign(0.9 m + 0.1 g) + decay w)        m ← 0.99 m + 0.01 g
void lion(RowView<float> w, RowView<float> m, RowView<const float> g, double rate, double decay) {
    const auto direction = 0.9 * m + 0.1 * g;
    const auto sign = select(direction > 0, 1, select(direction < 0, -1, 0));
    out(w, m) = values(w - rate * (sign + decay * w), 0.99 * m + 0.01 * g);
}

int main() {
    constexpr Index examples = 256, features = 37;
    hydralm::Random random(1);
    std::vector<float> x(examples * features), truth(features), w(features), m(features),
        g(features);
    for (float& v : x) v = static_cast<float>(random.normal());
    for (float& v : truth) v = static_cast<float>(random.normal());
    const auto row = [&](Index n) { return view(x.data() + n * features, features); };

    const auto loss_and_gradient = [&] {
        double loss = 0;
        out(view(g)) = 0;
        for (Index n = 0; n < examples; ++n) {
            const float error = dot(row(n), view(w)) - dot(row(n), view(truth));
            loss += 0.5 * static_cast<double>(error * error) / examples;
            out(view(g)) += row(n) * (error / examples);
        }
        return loss;
    };
    const double first = loss_and_gradient();
    for (int step = 0; step < 300; ++step) {
        loss_and_gradient();
        lion(view(w), view(m), view(g), 0.02 * (1 - step / 300.0), 1e-4);
    }
    const double last = loss_and_gradient();
    std::printf("loss %.3f -> %.6f\n", first, last);
    return last < 0.01 * first ? 0 : 1;
}
