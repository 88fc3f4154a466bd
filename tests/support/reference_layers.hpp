// The layers in plain loops over doubles, one token at a time, from their formulas alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "hydralm/core/types.hpp"
#include "hydralm/kernels/retrieval/reference.hpp"

namespace hydralm::test {

using Values = std::vector<double>;
using NamedValues = std::map<std::string, Values, std::less<>>;  // tensors by name, row-major

inline double& at(Values& v, Index i) { return v[static_cast<std::size_t>(i)]; }
inline double at(const Values& v, Index i) { return v[static_cast<std::size_t>(i)]; }
inline Values zeros(Index n) { return Values(static_cast<std::size_t>(n)); }
inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }

// W x, W [out, in].
inline Values product(const Values& w, const Values& x) {
    const auto in = static_cast<Index>(x.size());
    Values y = zeros(static_cast<Index>(w.size()) / in);
    for (Index o = 0; o < static_cast<Index>(y.size()); ++o)
        for (Index i = 0; i < in; ++i) at(y, o) += at(w, o * in + i) * at(x, i);
    return y;
}

// x · (mean(x²) + ε)^(−1/2) ⊙ w.
inline Values rms(const Values& x, const Values& w, double epsilon) {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
    Values y = x;
    for (std::size_t i = 0; i < x.size(); ++i) y[i] *= scale * w[i];
    return y;
}

class ReferenceDeltaNet {
public:
    struct Shape {
        Index d_model, n_heads, head_dim, conv_kernel;
        bool use_gate, norm_qk, negative_eigenvalues;
    };

    ReferenceDeltaNet(Shape shape, const NamedValues& tensors)
        : s_(shape),
          p_(tensors),
          conv_cache(static_cast<std::size_t>(shape.conv_kernel - 1), zeros(3 * inner())),
          S(zeros(shape.n_heads * shape.head_dim * shape.head_dim)) {}

    Values step(const Values& x) {
        const Index I = inner(), H = s_.n_heads, D = s_.head_dim, K = s_.conv_kernel;
        conv_cache.push_back(product(p_.at("qkv_proj.weight"), x));
        Values qkv = p_.at("short_conv.conv.bias");
        for (Index c = 0; c < 3 * I; ++c) {
            for (Index j = 0; j < K; ++j)
                at(qkv, c) += at(p_.at("short_conv.conv.weight"), c * K + j) *
                              at(conv_cache[static_cast<std::size_t>(j)], c);
            at(qkv, c) = silu(at(qkv, c));
        }
        conv_cache.erase(conv_cache.begin());
        const Values ab = product(p_.at("ab_proj.weight"), x);
        Values o = zeros(I);
        for (Index h = 0; h < H; ++h) {
            double* const q = &at(qkv, h * D);
            double* const k = &at(qkv, I + h * D);
            double* const v = &at(qkv, 2 * I + h * D);
            if (s_.norm_qk) {
                normalise(q);
                normalise(k);
            }
            const double alpha = sigmoid(at(ab, h) + at(p_.at("ab_proj.bias"), h));
            const double beta = (s_.negative_eigenvalues ? 2 : 1) *
                                sigmoid(at(ab, H + h) + at(p_.at("ab_proj.bias"), H + h));
            for (Index i = 0; i < D; ++i) {  // row i of S: value index i
                double* const row = &at(S, (h * D + i) * D);
                double recalled = 0;
                for (Index j = 0; j < D; ++j) recalled += row[j] * k[j];
                const double u = beta * (v[i] - alpha * recalled);
                for (Index j = 0; j < D; ++j) row[j] = alpha * row[j] + u * k[j];
                for (Index j = 0; j < D; ++j) at(o, h * D + i) += row[j] * q[j];
            }
        }
        if (s_.use_gate) {
            const Values gate = product(p_.at("gate_proj.weight"), x);
            for (Index i = 0; i < I; ++i) at(o, i) *= silu(at(gate, i));
        }
        return product(p_.at("o_proj.weight"), o);
    }

    // The state by its name in files.
    Values state(const std::string& name) const {
        if (name == "S") return S;
        const auto kept = static_cast<Index>(conv_cache.size());
        Values cache = zeros(3 * inner() * kept);
        for (Index c = 0; c < 3 * inner(); ++c)
            for (Index j = 0; j < kept; ++j)
                at(cache, c * kept + j) = at(conv_cache[static_cast<std::size_t>(j)], c);
        return cache;
    }

private:
    Index inner() const { return s_.n_heads * s_.head_dim; }
    void normalise(double* x) const {
        double squares = 0;
        for (Index i = 0; i < s_.head_dim; ++i) squares += x[i] * x[i];
        const double norm = std::max(std::sqrt(squares), 1e-12);
        for (Index i = 0; i < s_.head_dim; ++i) x[i] /= norm;
    }

    Shape s_;
    const NamedValues& p_;

public:
    std::vector<Values> conv_cache;  // K−1 inputs [3I], oldest first
    Values S;                        // [H, D, D], rows are values
};

class ReferenceWindowAttention {
public:
    struct Shape {
        Index d_model, n_heads, head_dim, window;
        double rope_base;
        Index groups = 0;  // of keys and values; 0: n_heads
    };

    ReferenceWindowAttention(Shape shape, const NamedValues& tensors) : s_(shape), p_(tensors) {}

    Values step(const Values& x) {
        const Index I = s_.n_heads * s_.head_dim, H = s_.n_heads, D = s_.head_dim;
        const Values qkv = product(p_.at("qkv_proj.weight"), x);
        const Index kept = groups() * D;
        Values q(qkv.begin(), qkv.begin() + I), k(qkv.begin() + I, qkv.begin() + I + kept);
        rotate(q);
        rotate(k);
        keys.push_back(k);
        values.emplace_back(qkv.begin() + I + kept, qkv.end());
        if (static_cast<Index>(keys.size()) > s_.window) {
            keys.erase(keys.begin());
            values.erase(values.begin());
        }
        ++position;
        Values o = zeros(I);
        for (Index h = 0; h < H; ++h) {
            const Index g = h * groups() / H;
            Values weights;
            for (const Values& key : keys) {
                double score = 0;
                for (Index i = 0; i < D; ++i) score += at(q, h * D + i) * at(key, g * D + i);
                weights.push_back(score / std::sqrt(static_cast<double>(D)));
            }
            const double most = *std::max_element(weights.begin(), weights.end());
            double sum = 0;
            for (double& w : weights) sum += w = std::exp(w - most);
            for (std::size_t s = 0; s < weights.size(); ++s)
                for (Index i = 0; i < D; ++i)
                    at(o, h * D + i) += weights[s] / sum * at(values[s], g * D + i);
        }
        return product(p_.at("o_proj.weight"), o);
    }

    // The state by its name in files.
    Values state(const std::string& name) const {
        const auto& past = name == "k_cache" ? keys : values;
        Values result;
        for (Index h = 0; h < groups(); ++h)
            for (const Values& token : past)
                result.insert(result.end(), token.begin() + h * s_.head_dim,
                              token.begin() + (h + 1) * s_.head_dim);
        return result;
    }

private:
    Index groups() const { return s_.groups > 0 ? s_.groups : s_.n_heads; }

    // Pairs (j, j + D/2) of every head by the angle position · base^(−2j/D).
    void rotate(Values& x) const {
        const Index D = s_.head_dim;
        for (Index h = 0; h < static_cast<Index>(x.size()) / D; ++h)
            for (Index j = 0; j < D / 2; ++j) {
                const long double frequency =
                    std::pow(static_cast<long double>(s_.rope_base),
                             -2.0L * static_cast<long double>(j) / static_cast<long double>(D));
                const long double angle = static_cast<long double>(position) * frequency;
                const auto c = static_cast<double>(std::cos(angle)),
                           s = static_cast<double>(std::sin(angle));
                double& a = at(x, h * D + j);
                double& b = at(x, h * D + j + D / 2);
                const double a0 = a, b0 = b;
                a = a0 * c - b0 * s;
                b = b0 * c + a0 * s;
            }
    }

    Shape s_;
    const NamedValues& p_;

public:
    std::int64_t position = 0;
    std::vector<Values> keys,
        values;  // the last min(position, W) tokens, all groups of each, oldest first
};

// w_down (silu(g) ⊙ u), [g; u] = w_fused x.
inline Values reference_swiglu(const NamedValues& p, const Values& x) {
    const Values gu = product(p.at("w_fused.weight"), x);
    const auto h = static_cast<Index>(gu.size()) / 2;
    Values hidden = zeros(h);
    for (Index i = 0; i < h; ++i) at(hidden, i) = silu(at(gu, i)) * at(gu, h + i);
    return product(p.at("w_down.weight"), hidden);
}

// Retrieval attention with the past kept whole; the selection is the kernel's reference's business.
class ReferenceRetrieval {
public:
    struct Shape {
        Index d_model, n_heads, head_dim, chunk, top_k, conv_kernel;
    };

    ReferenceRetrieval(Shape shape, const NamedValues& tensors) : s_(shape), p_(tensors) {}

    // y of every row [N, d]; fills the arrays below.
    Values run(const std::vector<Values>& rows) {
        const Index I = s_.n_heads * s_.head_dim, H = s_.n_heads, D = s_.head_dim,
                    K = s_.conv_kernel, N = static_cast<Index>(rows.size());
        std::vector<Values> inputs(static_cast<std::size_t>(K - 1), zeros(3 * I));
        for (const Values& x : rows) inputs.push_back(product(p_.at("qkv_proj.weight"), x));
        Values o = zeros(N * I);
        keys = values = zeros(N * I);
        selected.assign(static_cast<std::size_t>(N * H * s_.top_k), -1);
        for (Index h = 0; h < H; ++h) {
            Values q = zeros(N * D), out = zeros(N * D), gates = zeros(N);
            for (Index t = 0; t < N; ++t) {
                const auto mixed = [&](Index part, Index i) {
                    const Index c = part * I + h * D + i;
                    double sum = 0;
                    for (Index j = 0; j < K; ++j)
                        sum += at(p_.at("short_conv.conv.weight"), c * K + j) *
                               at(inputs[static_cast<std::size_t>(t + j)], c);
                    return sum;
                };
                double qq = 0, kk = 0, logit = at(p_.at("gate.bias"), h) - 2;
                for (Index i = 0; i < D; ++i) {
                    qq += mixed(0, i) * mixed(0, i);
                    kk += mixed(1, i) * mixed(1, i);
                }
                const double tau = std::exp(at(p_.at("temperature"), h));
                for (Index i = 0; i < D; ++i) {
                    const Index place = (h * N + t) * D + i;
                    at(q, t * D + i) = tau * mixed(0, i) / std::max(std::sqrt(qq), 1e-12);
                    at(keys, place) = mixed(1, i) / std::max(std::sqrt(kk), 1e-12);
                    at(values, place) = mixed(2, i);
                    logit += 8 * at(p_.at("gate.weight"), h * D + i) * at(keys, place);
                }
                at(gates, t) = sigmoid(logit);
            }
            std::vector<std::int32_t> own(static_cast<std::size_t>(N * s_.top_k));
            kernels::retrieval_attention_reference<double>(
                {q.data(), N, D}, {keys.data() + h * N * D, N, D},
                {values.data() + h * N * D, N, D}, gates.data(), s_.chunk, s_.top_k,
                std::exp(at(p_.at("route_scale"), h)), at(p_.at("local_logit"), h),
                {out.data(), N, D}, {own.data(), N, s_.top_k});
            for (Index t = 0; t < N; ++t) {
                std::copy_n(out.data() + t * D, D, o.data() + t * I + h * D);
                std::copy_n(own.data() + t * s_.top_k, s_.top_k,
                            selected.data() + (t * H + h) * s_.top_k);
            }
        }
        Values y;
        for (Index t = 0; t < N; ++t) {
            const Values row(o.begin() + t * I, o.begin() + (t + 1) * I);
            const Values projected = product(p_.at("o_proj.weight"), row);
            y.insert(y.end(), projected.begin(), projected.end());
        }
        return y;
    }

    Values keys, values;                 // [H, N, D]
    std::vector<std::int32_t> selected;  // [N, H, top_k]

private:
    Shape s_;
    const NamedValues& p_;
};

}  // namespace hydralm::test
