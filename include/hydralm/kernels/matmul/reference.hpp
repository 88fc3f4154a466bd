// The products as plain loops: the specification of kernels/matmul. Any scalar; row-major weights.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/core/bfloat16.hpp"
#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels::reference {

// y = x·Wᵀ. x: [M, in], w: [out, in], y: [M, out].
template <class T>
void matmul(MatrixView<const T> x, MatrixView<const T> w, MatrixView<T> y) {
    for (Index m = 0; m < x.rows(); ++m)
        for (Index o = 0; o < w.rows(); ++o) {
            T sum = T(0);
            for (Index i = 0; i < w.cols(); ++i) sum += x(m, i) * w(o, i);
            y(m, o) = sum;
        }
}

// y = x·Wᵀ with x and W rounded to bf16, nearest even. Per 32 inputs, two chains from +0 over the
// even and the odd ones, then sum ← sum + (even + odd). The fast form has these very bits.
inline void matmul_bf16(MatrixView<const float> x, MatrixView<const float> w, MatrixView<float> y) {
    const auto rounded = [](float v) { return float_from_bf16(bf16_from(v)); };
    for (Index m = 0; m < x.rows(); ++m)
        for (Index o = 0; o < w.rows(); ++o) {
            float sum = 0;
            for (Index first = 0; first < w.cols(); first += 32) {
                float chains[2] = {0, 0};
                for (Index i = first; i < std::min(first + 32, w.cols()); ++i)
                    chains[i % 2] = std::fma(rounded(x(m, i)), rounded(w(o, i)), chains[i % 2]);
                sum += chains[0] + chains[1];
            }
            y(m, o) = sum;
        }
}

// Per block of 32 inputs, the last one padded with zeros: x as q · s, s = max |x| / 127 and q = x ·
// (127 / max) rounded to nearest, ties to even; the sum of the products of integers exactly; sum ←
// fma(that sum, d · s, sum) with the scale d of the weights' block. x whose max is so small that
// 127 / max is infinite counts as 0; a block with an infinity or a NaN makes the sum NaN. Block:
// weights::Q8Block or Q4Block, w: [out, in / 32]. The fast form has these very bits.
template <class Block>
void matmul_quantised(MatrixView<const float> x, MatrixView<const Block> w, MatrixView<float> y) {
    for (Index m = 0; m < x.rows(); ++m)
        for (Index o = 0; o < w.rows(); ++o) {
            float sum = 0;
            for (Index b = 0; b < w.cols(); ++b) {
                const Index first = b * 32, count = std::min<Index>(32, x.cols() - first);
                float most = 0;
                bool finite = true;
                for (Index i = first; i < first + count; ++i) {
                    most = std::max(most, std::abs(x(m, i)));
                    finite = finite && std::isfinite(x(m, i));
                }
                const float inverse = 127 / most;
                const bool zero = !finite || !std::isfinite(inverse);
                int integer = 0;
                for (Index i = 0; i < count && !zero; ++i)
                    integer += static_cast<int>(std::nearbyint(x(m, first + i) * inverse)) *
                               w(o, b).value(i);
                const float scale = !finite ? std::nanf("") : zero ? 0.0F : most / 127;
                sum = std::fma(static_cast<float>(integer), w(o, b).scale() * scale, sum);
            }
            y(m, o) = sum;
        }
}

// hidden = silu(x·Gᵀ) ⊙ (x·Uᵀ), w = [G; U]: [2h, in], hidden: [M, h].
template <class T>
void matmul_swiglu(MatrixView<const T> x, MatrixView<const T> w, MatrixView<T> hidden) {
    const Index h = hidden.cols();
    for (Index m = 0; m < x.rows(); ++m)
        for (Index o = 0; o < h; ++o) {
            T g = T(0), u = T(0);
            for (Index i = 0; i < w.cols(); ++i) {
                g += x(m, i) * w(o, i);
                u += x(m, i) * w(h + o, i);
            }
            hidden(m, o) = g / (T(1) + std::exp(-g)) * u;
        }
}

// dx = dy·W. dy: [M, out], w: [out, in], dx: [M, in].
template <class T>
void matmul_input_gradient(MatrixView<const T> dy, MatrixView<const T> w, MatrixView<T> dx) {
    for (Index m = 0; m < dy.rows(); ++m)
        for (Index i = 0; i < w.cols(); ++i) {
            T sum = T(0);
            for (Index o = 0; o < w.rows(); ++o) sum += dy(m, o) * w(o, i);
            dx(m, i) = sum;
        }
}

// dw += dyᵀ·x. dy: [M, out], x: [M, in], dw: [out, in].
template <class T>
void matmul_gradient(MatrixView<const T> dy, MatrixView<const T> x, MatrixView<T> dw) {
    for (Index o = 0; o < dw.rows(); ++o)
        for (Index i = 0; i < dw.cols(); ++i) {
            T sum = T(0);
            for (Index m = 0; m < dy.rows(); ++m) sum += dy(m, o) * x(m, i);
            dw(o, i) += sum;
        }
}

}  // namespace HYDRALM_NAMESPACE::kernels::reference
