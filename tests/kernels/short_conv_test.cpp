// The short convolution against its reference, cut sequences, and central differences.
#include "hydralm/kernels/short_conv/short_conv.hpp"

#include <limits>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

const auto batch_silu = [](auto z) { return simd::silu(z); };
const auto batch_silu_derivative = [](auto z) { return simd::silu_derivative(z); };

// x and y are slices, one element off, of rows of C + 3 elements.
template <class T>
struct ConvCase {
    Index N, C, K;
    std::vector<T> x, weight, bias, cache;

    ConvCase(Index tokens, Index channels, Index taps, std::uint64_t seed)
        : N(tokens), C(channels), K(taps) {
        Random random(seed);
        const auto fill = [&](std::vector<T>& v, Index n) {
            for (Index i = 0; i < n; ++i) v.push_back(static_cast<T>(random.normal()));
        };
        fill(x, N * (C + 3) + 1);
        fill(weight, K * C);
        fill(bias, C);
        fill(cache, (K - 1) * C);
    }
    MatrixView<const T> x_view() const { return {x.data() + 1, N, C, C + 3}; }
    MatrixView<const T> weight_view() const { return {weight.data(), K, C}; }
    MatrixView<T> cache_view() { return {cache.data(), K - 1, C}; }
};

template <class T>
std::vector<T> unset(Index n) {
    return std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN());
}

template <class T>
void sweep(double bound) {
    for (const Index K : {1, 2, 3, 4, 7})
        for (const Index N : {0, 1, 2, 3, 4, 5, 17, 40})
            for (const Index C : {1, 4, 15, 16, 17, 35})
                for (const bool with_bias : {true, false}) {
                    ConvCase<T> c(N, C, K, static_cast<std::uint64_t>(N * 100 + C)), r = c;
                    auto y = unset<T>(N * C), expected = unset<T>(N * C);
                    const T* bias = with_bias ? c.bias.data() : nullptr;
                    kernels::short_conv(c.x_view(), c.weight_view(), bias, c.cache_view(),
                                        MatrixView<T>(y.data(), N, C), batch_silu);
                    kernels::short_conv_reference<T>(
                        r.x_view(), r.weight_view(), bias, r.cache_view(),
                        MatrixView<T>(expected.data(), N, C), [](T z) { return simd::silu(z); });
                    const std::string where = "K " + std::to_string(K) + " N " + std::to_string(N) +
                                              " C " + std::to_string(C);
                    check_close(y, expected, bound, where);
                    CHECK(c.cache == r.cache);
                }
}

// Σ y·dy + Σ cache·dcache after a forward pass: the loss whose gradient is checked.
double loss(ConvCase<double> c, const std::vector<double>& dy, const std::vector<double>& dcache) {
    std::vector<double> y(dy.size());
    kernels::short_conv_reference<double>(c.x_view(), c.weight_view(), c.bias.data(),
                                          c.cache_view(), MatrixView<double>(y.data(), c.N, c.C),
                                          [](double z) { return simd::silu(z); });
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    for (std::size_t i = 0; i < dcache.size(); ++i) sum += c.cache[i] * dcache[i];
    return sum;
}

std::vector<double> central_differences(ConvCase<double>& c, std::vector<double>& of,
                                        const std::vector<double>& dy,
                                        const std::vector<double>& dcache) {
    std::vector<double> gradient;
    for (double& value : of) {
        const double kept = value, h = 1e-5;
        value = kept + h;
        const double up = loss(c, dy, dcache);
        value = kept - h;
        gradient.push_back((up - loss(c, dy, dcache)) / (2 * h));
        value = kept;
    }
    return gradient;
}

template <class T>
void check_backward(Index N, Index C, Index K, double bound) {
    ConvCase<double> c(N, C, K, static_cast<std::uint64_t>(N));
    Random random(99);
    std::vector<double> dy, dcache;
    for (Index i = 0; i < N * C; ++i) dy.push_back(random.normal());
    for (Index i = 0; i < (K - 1) * C; ++i) dcache.push_back(random.normal());
    const auto as = [](const auto& v) { return std::vector<T>(v.begin(), v.end()); };
    const auto x = as(c.x), weight = as(c.weight), bias = as(c.bias), cache = as(c.cache);
    auto dx = as(dy), dc = as(dcache);
    std::vector<T> dweight(weight.size()), dbias(bias.size());
    AlignedBuffer<std::byte> bytes(kernels::short_conv_backward_workspace_bytes<T>(K));
    Arena arena(bytes.span());
    kernels::short_conv_backward(
        MatrixView<const T>(x.data() + 1, N, C, C + 3), MatrixView<const T>(cache.data(), K - 1, C),
        MatrixView<const T>(weight.data(), K, C), bias.data(), MatrixView<const T>(dx.data(), N, C),
        MatrixView<T>(dc.data(), K - 1, C), MatrixView<T>(dx.data(), N, C),
        MatrixView<T>(dweight.data(), K, C), dbias.data(), arena, batch_silu_derivative);
    const std::string where =
        "K " + std::to_string(K) + " N " + std::to_string(N) + " C " + std::to_string(C);
    const auto all = central_differences(c, c.x, dy, dcache);
    std::vector<double> expected;
    for (Index t = 0; t < N; ++t)
        for (Index i = 0; i < C; ++i)
            expected.push_back(all[static_cast<std::size_t>(t * (C + 3) + 1 + i)]);
    check_close(dx, expected, bound, "dx, " + where);
    check_close(dweight, central_differences(c, c.weight, dy, dcache), bound, "dweight, " + where);
    check_close(dbias, central_differences(c, c.bias, dy, dcache), bound, "dbias, " + where);
    check_close(dc, central_differences(c, c.cache, dy, dcache), bound, "dcache, " + where);
}

}  // namespace

TEST_CASE("short convolution: reference in float and double", "[kernels][short_conv]") {
    sweep<float>(2e-6);
    sweep<double>(1e-14);
}

TEST_CASE("short convolution: a cut sequence has the bits of the whole", "[kernels][short_conv]") {
    for (const Index cut : {1, 2, 3, 16, 20}) {
        ConvCase<float> whole(37, 35, 4, 5), parts = whole;
        auto y = unset<float>(37 * 35), z = y;
        const MatrixView<float> y_view(y.data(), 37, 35), z_view(z.data(), 37, 35);
        kernels::short_conv(whole.x_view(), whole.weight_view(), whole.bias.data(),
                            whole.cache_view(), y_view, batch_silu);
        kernels::short_conv(parts.x_view().middle_rows(0, cut), parts.weight_view(),
                            parts.bias.data(), parts.cache_view(), z_view.middle_rows(0, cut),
                            batch_silu);
        for (Index t = cut; t < 37; ++t)
            kernels::short_conv(parts.x_view().middle_rows(t, 1), parts.weight_view(),
                                parts.bias.data(), parts.cache_view(), z_view.middle_rows(t, 1),
                                batch_silu);
        CHECK(y == z);
        CHECK(whole.cache == parts.cache);
    }
}

TEST_CASE("short convolution: weights of a file are turned tap-major", "[kernels][short_conv]") {
    const std::vector<float> file{1, 2, 3, 4, 5, 6};
    std::vector<float> packed(6);
    kernels::pack_short_conv_weight<float>(MatrixView<const float>(file.data(), 2, 3),
                                           MatrixView<float>(packed.data(), 3, 2));
    CHECK(packed == std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("short convolution: gradients are central differences", "[kernels][short_conv]") {
    for (const Index N : {1, 2, 3, 4, 9}) {
        check_backward<double>(N, 5, 4, 1e-8);
        check_backward<float>(N, 19, 4, 1e-4);
        check_backward<double>(N, 17, 1, 1e-8);
        check_backward<double>(N, 3, 6, 1e-8);
    }
}
