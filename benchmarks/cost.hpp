// What a token costs, as formulas: the FLOP, weights, state and reads of docs/complexity.md, by
// which benchmarks report fractions of a peak and complexity_report compares with what is measured.
//
// A multiply-add is 2 FLOP, an exponential none; I = n_heads · head_dim. Norms, gates and biases,
// O(d) a token, are left out.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/model/config.hpp"
#include "hydralm/state/bank_policy.hpp"

namespace hydralm::benchmarks {

// The cost of one layer's mixer in the scalar T, of a resolved config.
template <Real T>
struct MixerCost {
    const HydraConfig& c;
    LayerType type;
    BankPolicy policy{};  // of retrieval and full

    double inner() const { return double(c.n_heads) * c.head_dim; }
    double groups() const { return c.n_kv_heads > 0 ? c.n_kv_heads : c.n_heads; }
    double channels() const { return 3 * inner(); }  // of the short convolution

    // Numbers in the weights that every token is multiplied with.
    double weights() const {
        const double d = c.d_model, I = inner();
        switch (type) {
            case LayerType::deltanet:
                return d * (3 * I + 2.0 * c.n_heads) + (c.dn_use_gate ? d * I : 0) + I * d;
            case LayerType::full: return d * (I + 2 * groups() * c.head_dim) + I * d;
            case LayerType::swa:
            case LayerType::retrieval: break;
        }
        return d * 3 * I + I * d;
    }

    // FLOP of a token with t before it, beside 2 weights().
    double mixing_flop(double t) const {
        const double D = c.head_dim, H = c.n_heads,
                     conv = 2.0 * c.dn_short_conv_kernel * channels();
        switch (type) {
            case LayerType::deltanet: return conv + 6 * D * D * H;
            case LayerType::swa: return 4 * D * H * std::min<double>(t + 1, c.swa_window);
            case LayerType::full: return 4 * D * H * (t + 1);
            case LayerType::retrieval: break;
        }
        return conv + H * (2 * D * scored(t) + 4 * D * read(t));
    }

    // Bytes that one stream carries behind t tokens.
    double state_bytes(double t) const {
        const double D = c.head_dim, H = c.n_heads, I = inner(),
                     conv = (c.dn_short_conv_kernel - 1) * channels();
        double numbers = 0;
        switch (type) {
            case LayerType::deltanet: numbers = conv + D * D * H; break;
            case LayerType::swa: numbers = 2 * I * c.swa_window; break;
            case LayerType::full: numbers = 2 * groups() * D * t; break;
            case LayerType::retrieval: {
                const double C = c.retrieval_chunk_size;
                if (policy.bounded())  // chunks that a tile of 256 tokens needs, and pages of means
                    numbers =
                        conv + H * (2 * D + 1) * (C * double(policy.exact_chunks + 1) + 256) +
                        3 * I * 64 *
                            double(ceil_div(policy.exact_chunks + policy.pooled_chunks, Index{64}) +
                                   1);
                else numbers = conv + H * (2 * D + 1) * t + I * t / C;
            }
        }
        return numbers * sizeof(T);
    }

    // Bytes of it that a decoded token with t before it reads.
    double read_bytes(double t) const {
        const double D = c.head_dim, I = inner(), kept = c.dn_short_conv_kernel - 1;
        double numbers = 0;
        switch (type) {
            case LayerType::deltanet: numbers = kept * channels() + D * I; break;
            case LayerType::swa: numbers = 2 * I * std::min<double>(t + 1, c.swa_window); break;
            case LayerType::full: numbers = 2 * groups() * D * (t + 1); break;
            case LayerType::retrieval: numbers = kept * channels() + I * (scored(t) + 2 * read(t));
        }
        return numbers * sizeof(T);
    }

private:
    // Retrieval: summaries that a head scores for a token, and keys that it attends to.
    double scored(double t) const {
        const double past = std::floor(t / c.retrieval_chunk_size);
        if (policy.bounded())
            return std::min(past, double(policy.exact_chunks + policy.pooled_chunks) + 1);
        return scored_nodes(0, past);
    }
    // Of so many nodes of a height.
    double scored_nodes(Index height, double nodes) const {
        const double group = chunk_group, above = std::floor(nodes / group),
                     open = double(open_nodes(height + 1, policy.open_groups));
        if (policy.open_groups == 0 || height + 1 == tree_heights || above <= open) return nodes;
        return scored_nodes(height + 1, above) + group * open + (nodes - group * above);
    }
    double read(double t) const {
        const double C = c.retrieval_chunk_size, past = std::floor(t / C), own = t - C * past + 1;
        double chosen = std::min<double>(past, c.retrieval_top_k);
        double seen = past;
        if (policy.bounded()) {  // of those it scores, the pooled are one value each
            seen = std::min(past, double(policy.exact_chunks + policy.pooled_chunks) + 1);
            const double exact = std::min(past, double(policy.exact_chunks));
            return own + (seen > 0 ? chosen * (exact * C + (seen - exact)) / seen : 0.0);
        }
        return own + chosen * C;
    }
};

inline double mlp_weights(const HydraConfig& c) {
    return 3.0 * c.d_model * static_cast<double>(mlp_hidden(c));
}
inline double head_weights(const HydraConfig& c) { return double(c.vocab_size) * c.d_model; }
inline double mtp_weights(const HydraConfig& c) {
    return 2.0 * c.d_model * c.d_model + mlp_weights(c);
}

// FLOP of N tokens from the start of a stream, with logits for that many of them.
inline double forward_flop(const HydraConfig& c, Index N, Index logits) {
    double flop = 2 * head_weights(c) * static_cast<double>(logits) +
                  2 * mlp_weights(c) * c.n_layers * static_cast<double>(N);
    for (int i = 0; i < c.n_layers; ++i) {
        const MixerCost<float> mixer{c, c.layer_types[i]};
        flop += 2 * mixer.weights() * static_cast<double>(N);
        for (Index t = 0; t < N; ++t) flop += mixer.mixing_flop(static_cast<double>(t));
    }
    return flop;
}

}  // namespace hydralm::benchmarks
