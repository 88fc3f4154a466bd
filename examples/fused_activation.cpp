// 12. A fused activation with its gradient, each one loop, and the gradient checked against central
// differences: y = relu(g)² ⊙ u.
#include <hydralm/core/random.hpp>
#include <hydralm/simd/expression.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

using hydralm::MatrixView;
using hydralm::view;

template <class T>
void squared_relu(MatrixView<const T> g, MatrixView<const T> u, MatrixView<T> y) {
    out(y) = square(max(g, 0)) * u;
}

// dg = 2 relu(g) u dy, du = relu(g)² dy. dg and du may lie over g and u.
template <class T>
void squared_relu_backward(MatrixView<const T> g, MatrixView<const T> u, MatrixView<const T> dy,
                           MatrixView<T> dg, MatrixView<T> du) {
    const auto positive = max(g, 0);
    out(dg, du) = values(2 * positive * u * dy, square(positive) * dy);
}

int main() {
    constexpr hydralm::Index rows = 3, width = 19, size = rows * width;
    hydralm::Random random(1);
    std::vector<double> g(size), u(size), dy(size), y(size), dg(size), du(size);
    for (auto* values : {&g, &u, &dy})
        for (double& v : *values) v = random.normal();
    const auto matrix = [](std::vector<double>& x) {
        return MatrixView<double>(x.data(), rows, width);
    };
    squared_relu_backward<double>(matrix(g), matrix(u), matrix(dy), matrix(dg), matrix(du));

    const auto loss = [&] {
        squared_relu<double>(matrix(g), matrix(u), matrix(y));
        return dot(view(y), view(dy));
    };
    double worst = 0;
    const auto check = [&](std::vector<double>& x, const std::vector<double>& gradient) {
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double kept = x[i], h = 1e-5;
            const double above = (x[i] = kept + h, loss()), below = (x[i] = kept - h, loss());
            x[i] = kept;
            worst = std::max(worst, std::abs((above - below) / (2 * h) - gradient[i]));
        }
    };
    check(g, dg);
    check(u, du);
    std::printf("gradient and central differences differ by %.1e at most\n", worst);
    return worst < 1e-7 ? 0 : 1;
}
