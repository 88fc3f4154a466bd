// Causal depthwise convolution, a batch of channels at a time, the taps and the window of inputs in
// registers.
//
// For K = 4 each input is loaded once; the activation is applied before the store. Any other K
// re-reads its window. Matches short_conv_reference within K + 4 ULP of the largest term (float and
// double); bits do not depend on N or on the column slice.
#pragma once

#include <algorithm>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// f(z) = z, where no activation is wanted.
struct NoActivation {
    template <class V>
    constexpr V operator()(const V& z) const noexcept {
        return z;
    }
};

namespace detail {

// Channels [c, c + count) of z = the cache followed by x, from row −(K − 1).
template <Real T>
struct ShortConvColumns {
    MatrixView<const T> x;
    MatrixView<T> cache;
    Index c;
    Index count;  // ≤ lanes

    simd::Batch<T> get(const T* p) const noexcept {
        return count == simd::lanes<T> ? simd::load<T>(p) : simd::load_partial<T>(p, count);
    }
    void put(T* p, const simd::Batch<T>& v) const noexcept {
        if (count == simd::lanes<T>) simd::store<T>(p, v);
        else simd::store_partial<T>(p, v, count);
    }
    simd::Batch<T> z(Index t) const noexcept {
        return get(t < 0 ? cache.row(cache.rows() + t) + c : x.row(t) + c);
    }
    // The cache moves on to the last K − 1 rows of z, oldest first: no row is read after it is
    // written.
    void advance() const noexcept {
        const Index kept = cache.rows();
        for (Index i = 0; i < kept; ++i) put(cache.row(i) + c, z(x.rows() - kept + i));
    }
};

template <Real T, class Activation>
void short_conv_columns_4(const ShortConvColumns<T>& in, MatrixView<const T> weight,
                          const simd::Batch<T>& bias, Index first, Index end, MatrixView<T> y,
                          const Activation& f) noexcept {
    const auto w0 = in.get(weight.row(0) + in.c), w1 = in.get(weight.row(1) + in.c);
    const auto w2 = in.get(weight.row(2) + in.c), w3 = in.get(weight.row(3) + in.c);
    auto z0 = in.z(first - 3), z1 = in.z(first - 2), z2 = in.z(first - 1);
    for (Index t = first; t < end; ++t) {
        const auto z3 = in.get(in.x.row(t) + in.c);
        const auto sum =
            simd::fma(w3, z3, simd::fma(w2, z2, simd::fma(w1, z1, simd::fma(w0, z0, bias))));
        in.put(y.row(t) + in.c, f(sum));
        z0 = z1;
        z1 = z2;
        z2 = z3;
    }
}

template <Real T, class Activation>
void short_conv_columns(const ShortConvColumns<T>& in, MatrixView<const T> weight,
                        const simd::Batch<T>& bias, Index first, Index end, MatrixView<T> y,
                        const Activation& f) noexcept {
    const Index taps = weight.rows();
    for (Index t = first; t < end; ++t) {
        auto sum = bias;
        for (Index j = 0; j < taps; ++j)
            sum = simd::fma(in.get(weight.row(j) + in.c), in.z(t - taps + 1 + j), sum);
        in.put(y.row(t) + in.c, f(sum));
    }
}

}  // namespace detail

// short_conv_reference; f takes and returns batches and must be defined at 0. x, weight, cache and
// y may be column slices (any stride). One step of a stream is N = 1. No allocation, no errors.
// Cost: 2 K FLOP and f per element; one read of x and one write of y for K = 4.
template <Real T, class Activation = NoActivation>
void short_conv(MatrixView<const std::type_identity_t<T>> x,
                MatrixView<const std::type_identity_t<T>> weight,
                const std::type_identity_t<T>* bias, MatrixView<std::type_identity_t<T>> cache,
                MatrixView<T> y, const Activation& f = {}) noexcept {
    constexpr Index block =
        16;  // rows whose lines and pages are all at hand while the columns go by
    const auto columns = [&](Index c) {
        return detail::ShortConvColumns<T>{x, cache, c, std::min(simd::lanes<T>, x.cols() - c)};
    };
    for (Index first = 0; first < x.rows(); first += block) {
        const Index end = std::min(first + block, x.rows());
        for (Index c = 0; c < x.cols(); c += simd::lanes<T>) {
            const auto in = columns(c);
            const auto b = bias != nullptr ? in.get(bias + c) : simd::Batch<T>(T(0));
            if (weight.rows() == 4)
                detail::short_conv_columns_4<T>(in, weight, b, first, end, y, f);
            else detail::short_conv_columns<T>(in, weight, b, first, end, y, f);
        }
    }
    for (Index c = 0; c < x.cols(); c += simd::lanes<T>) columns(c).advance();
}

}  // namespace HYDRALM_NAMESPACE::kernels
