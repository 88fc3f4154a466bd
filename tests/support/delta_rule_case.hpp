// One head of the gated delta rule with its own storage: random, or read from golden vectors.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/delta_rule/delta_rule.hpp"
#include "support/golden.hpp"

namespace hydralm::test {

// Of order 1.
template <class T>
std::vector<T> random_values(Index n, std::uint64_t seed) {
    Random random(seed, 1);
    std::vector<T> values;
    for (Index i = 0; i < n; ++i) values.push_back(static_cast<T>(random.normal()));
    return values;
}

// q, k, v as slices of [N, 3D + 1] that begin one element off any alignment; g, β as columns of [N,
// 2].
template <class T, Index D>
struct DeltaRuleCase {
    Index N;
    std::uint64_t seed = 0;
    std::vector<T> qkv, gates, state;

    explicit DeltaRuleCase(Index tokens)
        : N(tokens),
          qkv(static_cast<std::size_t>(tokens * (3 * D + 1) + 1)),
          gates(static_cast<std::size_t>(2 * tokens)),
          state(static_cast<std::size_t>(D * D)) {}

    // Unit q and k, v of order 1, g in [least_log_decay, 0], β in (0, 2), a state of order 1 when
    // carried.
    DeltaRuleCase(Index tokens, std::uint64_t with_seed, double least_log_decay, bool carried)
        : DeltaRuleCase(tokens) {
        seed = with_seed;
        Random random(seed);
        for (Index t = 0; t < N; ++t) {
            for (Index part = 0; part < 3; ++part) {
                double norm = 0;
                for (Index i = 0; i < D; ++i) {
                    at(t, part, i) = static_cast<T>(random.normal());
                    norm +=
                        static_cast<double>(at(t, part, i)) * static_cast<double>(at(t, part, i));
                }
                for (Index i = 0; i < D && part < 2; ++i)
                    at(t, part, i) /= static_cast<T>(std::sqrt(norm));
            }
            g(t) = static_cast<T>(least_log_decay * random.uniform());
            beta(t) = static_cast<T>(2 * random.uniform());
        }
        for (T& s : state) s = carried ? static_cast<T>(random.normal()) : T(0);
    }

    // Head h of a golden file; S turned to [Dk, Dv].
    DeltaRuleCase(const GoldenFile& file, Index h) : DeltaRuleCase(file["q"].shape[1]) {
        const char* names[] = {"q", "k", "v"};
        for (Index part = 0; part < 3; ++part)
            for (Index t = 0; t < N; ++t)
                for (Index i = 0; i < D; ++i)
                    at(t, part, i) = static_cast<T>(value(file, names[part], (h * N + t) * D + i));
        for (Index t = 0; t < N; ++t) {
            g(t) = static_cast<T>(std::log(value(file, "alpha", h * N + t)));
            beta(t) = static_cast<T>(value(file, "beta", h * N + t));
        }
        state = golden_state(file, "initial_state", h);
    }

    static double value(const GoldenFile& file, const std::string& name, Index i) {
        return file[name].values[static_cast<std::size_t>(i)];
    }
    // Elements [h·size, (h + 1)·size) of a golden tensor.
    static std::vector<double> golden(const GoldenFile& file, const std::string& name, Index h,
                                      Index size) {
        const auto first = file[name].values.begin() + h * size;
        return {first, first + size};
    }
    // A golden state [Dv, Dk] of head h as [Dk, Dv].
    static std::vector<T> golden_state(const GoldenFile& file, const std::string& name, Index h) {
        std::vector<T> s(static_cast<std::size_t>(D * D));
        for (Index i = 0; i < D; ++i)
            for (Index j = 0; j < D; ++j)
                s[static_cast<std::size_t>(i * D + j)] =
                    static_cast<T>(value(file, name, (h * D + j) * D + i));
        return s;
    }

    T& at(Index t, Index part, Index i) {
        return qkv[static_cast<std::size_t>(t * (3 * D + 1) + 1 + part * D + i)];
    }
    T& g(Index t) { return gates[static_cast<std::size_t>(2 * t)]; }
    T& beta(Index t) { return gates[static_cast<std::size_t>(2 * t + 1)]; }

    kernels::GatedDeltaInput<T, D> input() const {
        const auto part = [&](Index p) {
            return MatrixView<const T, D>(qkv.data() + 1 + p * D, N, D, 3 * D + 1);
        };
        return {part(0), part(1), part(2), {gates.data(), N, 2}, {gates.data() + 1, N, 2}};
    }

    std::string where() const {
        return "D = " + std::to_string(D) + ", N = " + std::to_string(N) + ", seed " +
               std::to_string(seed) + (sizeof(T) == 4 ? ", float" : ", double");
    }
};

// What a form made of a case: output and final state.
template <class T>
struct DeltaRuleResult {
    std::vector<T> out, state;
};

// Runs form(input, state, out) from the state of the case; the output starts as NaN.
template <class T, Index D, class F>
DeltaRuleResult<T> run(const DeltaRuleCase<T, D>& c, const F& form) {
    DeltaRuleResult<T> result{
        std::vector<T>(static_cast<std::size_t>(c.N * D), std::numeric_limits<T>::quiet_NaN()),
        c.state};
    form(c.input(), MatrixView<T, D>(result.state.data(), D),
         MatrixView<T, D>(result.out.data(), c.N));
    return result;
}

template <Index Block, class T, Index D>
auto chunkwise(Index first_block = Block) {
    return [=](const kernels::GatedDeltaInput<T, D>& input, MatrixView<T, D> state,
               MatrixView<T, D> out) {
        AlignedBuffer<std::byte> bytes(kernels::gated_delta_workspace_bytes<T, D>(Block));
        Arena arena(bytes.span());
        kernels::gated_delta_chunkwise<Block>(input, state, out, first_block, arena);
    };
}

}  // namespace hydralm::test
