// The same loops twice, as expressions and by hand, for check_inner_loops.py to compare. By hand:
// whole batches, no tail, what a careful author writes with simd/.
#include "hydralm/simd/expression.hpp"

using namespace hydralm;

namespace {

constexpr Index lanes = simd::lanes<float>;
using Batch = simd::Batch<float>;

}  // namespace

extern "C" {

void expression_silu(Index n, float* y, const float* g, const float* u) {
    out(n, y) = silu(in(g)) * in(u);
}
void by_hand_silu(Index n, float* y, const float* g, const float* u) {
    for (Index i = 0; i + lanes <= n; i += lanes)
        simd::store(y + i, simd::silu(simd::load(g + i)) * simd::load(u + i));
}

// w ← keep w − rate g.
void expression_decay(Index n, float* w, const float* g, float keep, float rate) {
    out(n, w) = keep * in(w)-rate * in(g);
}
void by_hand_decay(Index n, float* w, const float* g, float keep, float rate) {
    const Batch k(keep), r(rate);
    for (Index i = 0; i + lanes <= n; i += lanes)
        simd::store(w + i, k * simd::load(w + i) - r * simd::load(g + i));
}

struct AdamW {
    float b1, c1, b2, c2, keep, step, root, epsilon;
};
void expression_adamw(Index n, float* m, float* v, float* w, const float* g, const AdamW& o) {
    const auto mean = o.b1 * in(m) + o.c1 * in(g);
    const auto spread = o.b2 * in(v) + o.c2 * square(in(g));
    out(n, m, v, w) =
        values(mean, spread, o.keep * in(w)-o.step * mean / (sqrt(o.root * spread) + o.epsilon));
}
void by_hand_adamw(Index n, float* m, float* v, float* w, const float* g, const AdamW& o) {
    const Batch b1(o.b1), c1(o.c1), b2(o.b2), c2(o.c2), keep(o.keep), step(o.step), root(o.root),
        epsilon(o.epsilon);
    for (Index i = 0; i + lanes <= n; i += lanes) {
        const Batch gradient = simd::load(g + i);
        const Batch mean = b1 * simd::load(m + i) + c1 * gradient;
        const Batch spread = b2 * simd::load(v + i) + c2 * (gradient * gradient);
        const Batch next =
            keep * simd::load(w + i) - step * mean / (simd::sqrt(root * spread) + epsilon);
        simd::store(m + i, mean);
        simd::store(v + i, spread);
        simd::store(w + i, next);
    }
}

// The two loops of RMS norm.
float expression_squares(Index n, const float* x) { return sum(square(view(x, n))); }
float by_hand_squares(Index n, const float* x) {
    Batch s0(0.0F), s1(0.0F), s2(0.0F), s3(0.0F);
    for (Index i = 0; i + 4 * lanes <= n; i += 4 * lanes) {
        const Batch a = simd::load(x + i), b = simd::load(x + i + lanes);
        const Batch c = simd::load(x + i + 2 * lanes), d = simd::load(x + i + 3 * lanes);
        s0 = s0 + a * a;
        s1 = s1 + b * b;
        s2 = s2 + c * c;
        s3 = s3 + d * d;
    }
    return simd::reduce_add<float>((s0 + s1) + (s2 + s3));
}
void expression_norm(Index n, float* y, const float* x, const float* w, float r) {
    out(n, y) = in(x)*r * in(w);
}
void by_hand_norm(Index n, float* y, const float* x, const float* w, float r) {
    const Batch scale(r);
    for (Index i = 0; i + lanes <= n; i += lanes)
        simd::store(y + i, simd::load(x + i) * scale * simd::load(w + i));
}

// The loops of softmax and of the logarithm of a sum of exponentials: maximum, terms and sum.
float expression_largest(Index n, const float* x) { return max(view(x, n)); }
float by_hand_largest(Index n, const float* x) {
    const auto larger = [](const Batch& a, const Batch& m) { return simd::max<float>(a, m); };
    Batch m0(-1e30F), m1 = m0, m2 = m0, m3 = m0;
    for (Index i = 0; i + 4 * lanes <= n; i += 4 * lanes) {
        m0 = larger(simd::load(x + i), m0);
        m1 = larger(simd::load(x + i + lanes), m1);
        m2 = larger(simd::load(x + i + 2 * lanes), m2);
        m3 = larger(simd::load(x + i + 3 * lanes), m3);
    }
    return simd::reduce_max<float>(larger(larger(m0, m1), larger(m2, m3)));
}
float expression_terms(Index n, float* y, const float* x, float shift) {
    return out(n, y).assign_and_sum(exp_finite(in(x)-shift));
}
float by_hand_terms(Index n, float* y, const float* x, float shift) {
    const Batch m(shift);
    Batch s0(0.0F), s1(0.0F);
    for (Index i = 0; i + 2 * lanes <= n; i += 2 * lanes) {
        const Batch a = simd::exp_finite(simd::load(x + i) - m);
        const Batch b = simd::exp_finite(simd::load(x + i + lanes) - m);
        simd::store(y + i, a);
        simd::store(y + i + lanes, b);
        s0 = s0 + a;
        s1 = s1 + b;
    }
    return simd::reduce_add<float>(s0 + s1);
}

// A matrix: the row's pointers are found once a row.
void expression_matrix(MatrixView<float> y, MatrixView<const float> x, RowView<const float> w) {
    out(y) = x * w + y;
}
void by_hand_matrix(MatrixView<float> y, MatrixView<const float> x, RowView<const float> w) {
    for (Index n = 0; n < y.rows(); ++n) {
        float* const to = y.row(n);
        const float* const from = x.row(n);
        for (Index i = 0; i + lanes <= y.cols(); i += lanes)
            simd::store(to + i,
                        simd::load(from + i) * simd::load(w.data() + i) + simd::load(to + i));
    }
}
}
