// One head of the gated delta rule with a decay for every key channel, with its own storage.
#pragma once

#include "support/delta_rule_case.hpp"

namespace hydralm::test {

template <class T>
inline constexpr T never = -std::numeric_limits<T>::infinity();
inline constexpr int extreme_gates = 7;  // kinds of them

// q, k, v as slices of [N, 2D + V + 1] that begin one element off any alignment, g of [N, D + 3].
template <class T>
struct ChannelDecayCase {
    Index N, D, V;
    std::uint64_t seed;
    std::vector<T> qkv, gates, betas, state;

    // g in [least, 0], unit q and k, β in (0, 2).
    ChannelDecayCase(Index tokens, Index keys, Index values, std::uint64_t with_seed, double least)
        : N(tokens), D(keys), V(values), seed(with_seed) {
        Random random(seed);
        const auto draw = [&](Index n, const auto& f) {
            std::vector<T> x(static_cast<std::size_t>(n));
            for (T& value : x) value = static_cast<T>(f());
            return x;
        };
        qkv = draw(N * (2 * D + V + 1) + 1, [&] { return random.normal(); });
        gates = draw(N * (D + 3), [&] { return least * random.uniform(); });
        betas = draw(N, [&] { return 2 * random.uniform(); });
        state = draw(D * V, [&] { return random.normal(); });
        for (Index t = 0; t < N; ++t)
            for (const Index part : {0, 1}) {
                T* const x = qkv.data() + 1 + t * (2 * D + V + 1) + part * D;
                double squares = 0;
                for (Index i = 0; i < D; ++i) squares += static_cast<double>(x[i] * x[i]);
                for (Index i = 0; i < D; ++i) x[i] /= static_cast<T>(std::sqrt(squares));
            }
    }
    // Channels that forget everything, now, always or nearly, beside channels that keep everything.
    void make_extreme(int kind) {
        const T tiny = static_cast<T>(std::log(1e-30));
        for (Index t = 0; t < N; ++t)
            for (Index i = 0; i < D; ++i) {
                T& x = g(t, i);
                if (kind == 0) x = i % 3 == 0 ? tiny : T(0);
                if (kind == 1 && i == 7) x = never<T>;
                if (kind == 2 && (t + i) % 5 == 0) x = never<T>;
                if (kind == 3) x = never<T>;
                if (kind == 4 && t % 8 < 4) x = tiny;
                if (kind == 5) x = (t + i) % 3 == 0 ? T(-800) : (t + i) % 3 == 1 ? T(-1e30) : x;
                if (kind == 6) x = i % 2 == 0 ? T(-1e-7) : T(-40);
            }
    }
    T& g(Index t, Index i) { return gates[static_cast<std::size_t>(t * (D + 3) + i)]; }

    MatrixView<const T> part(Index first, Index width) const {
        return {qkv.data() + 1 + first, N, width, 2 * D + V + 1};
    }
    auto input() const {
        return kernels::GatedDeltaInput<T, dynamic, dynamic, kernels::ChannelDecay<T, dynamic>>{
            part(0, D), part(D, D), part(2 * D, V), {gates.data(), N, D, D + 3}, {betas.data(), N}};
    }
    // With the decay of channel 0 for all.
    auto of_head() const {
        return kernels::GatedDeltaInput<T, dynamic>{
            part(0, D), part(D, D), part(2 * D, V), {gates.data(), N, D + 3}, {betas.data(), N}};
    }
    std::string where() const {
        return "N = " + std::to_string(N) + ", D = " + std::to_string(D) +
               ", V = " + std::to_string(V) + ", seed " + std::to_string(seed) +
               (sizeof(T) == 4 ? ", float" : ", double");
    }
};

}  // namespace hydralm::test
