// Optimiser: AdamW for every parameter, or the hybrid: Muon for the projections of mixers, MLPs and
// MTP, AdamW for the rest.
//
// Weights, gradient and both moments are flat buffers in file order. Which rule a parameter gets
// and whether it decays follows from its law.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/training/newton_schulz.hpp"
#include "hydralm/training/parameter_blocks.hpp"

namespace HYDRALM_NAMESPACE {

// Loshchilov & Hutter, "Decoupled weight decay regularization" (arXiv 1711.05101).
struct AdamWOptions {
    double rate = 3e-4;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double decay = 0.1;
};

struct MuonOptions {
    double rate = 5e-3;
    double momentum = 0.95;
};

enum class OptimiserKind : std::uint8_t { adamw, muon };  // muon: the hybrid

struct OptimiserOptions {
    OptimiserKind kind = OptimiserKind::adamw;
    AdamWOptions adamw;
    MuonOptions muon;
};

// Whether Muon moves a parameter.
inline bool moved_by_muon(const OptimiserOptions& options, const ParameterInfo& info) noexcept {
    return options.kind == OptimiserKind::muon && info.law.group == OptimiserGroup::muon;
}

// No parameter is left as it is.
struct NoneFrozen {
    constexpr bool operator()(const ParameterInfo&) const noexcept { return false; }
};

template <class Model>
class Optimiser {
public:
    using T = typename Model::Scalar;

    Optimiser(const Model& model, const OptimiserOptions& options)
        : Optimiser(model, options, 0, model.parameter_count) {}
    // Of the parameters from element `first` of the flat buffer on, size of them: whole tensors
    // where Muon rules, whole parameter_blocks elsewhere. To the bits of the optimiser of all.
    Optimiser(const Model& model, const OptimiserOptions& options, Index first, Index size)
        : infos_(model.parameters.begin(), model.parameters.end()),
          options_(options),
          begin_(first),
          first_(size),
          second_(size),
          workspace_(options.kind == OptimiserKind::muon ? workspace_bytes() : 0) {}

    // One update, t = steps() + 1, rates multiplied by scale:
    //   AdamW:  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
    //           w ← w (1 − rate·decay) − rate (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε)
    //   Muon:   m ← μm + g;  w ← w − rate √max(1, out/in) · newton_schulz(g + μm), part by part
    // parameters, gradient [its size] in file order; those for which frozen(info) holds are
    // left as they are, their moments too. No allocation, no errors; the same bits for any number
    // of threads.
    template <class Frozen = NoneFrozen>
    void step(std::span<T> parameters, std::span<const T> gradient, double scale,
              const Frozen& frozen = {}) noexcept {
        ++steps_;
        Index tensor = -begin_;  // where it begins
        for (const ParameterInfo& info : infos_) {
            const Index first = std::max<Index>(0, tensor);
            const Index end = std::min(first_.size(), tensor + info.size());
            tensor += info.size();
            if (first >= end || frozen(info)) continue;
            if (moved_by_muon(options_, info))
                muon(info, first, parameters.data(), gradient.data(), scale);
            else adamw(info, first, end - first, parameters.data(), gradient.data(), scale);
        }
    }

    // Moments of its parameters in file order: m, and v (zero where Muon rules).
    std::span<T> first_moment() noexcept { return first_.span(); }
    std::span<T> second_moment() noexcept { return second_.span(); }
    std::int64_t steps() const noexcept { return steps_; }
    void set_steps(std::int64_t steps) noexcept { steps_ = steps; }

private:
    void adamw(const ParameterInfo& info, Index offset, Index size, T* parameters,
               const T* gradient, double scale) noexcept {
        const AdamWOptions& o = options_.adamw;
        const double rate = o.rate * scale, t = static_cast<double>(steps_);
        const double keep = 1.0 - (info.law.decayed ? rate * o.decay : 0.0), b1 = o.beta1,
                     c1 = 1.0 - b1, b2 = o.beta2, c2 = 1.0 - b2,
                     step = rate / (1.0 - std::pow(b1, t)), root = 1.0 / (1.0 - std::pow(b2, t));
        parallel_for(
            ceil_div(size, parameter_block),
            [&](Index i) {
                const Index first = offset + i * parameter_block;
                const Index n = std::min(parameter_block, size - i * parameter_block);
                T* const m = first_.data() + first;
                T* const v = second_.data() + first;
                T* const w = parameters + first;
                const T* const g = gradient + first;
                const auto weight = in(w);
                const auto mean = b1 * in(m) + c1 * in(g);
                const auto spread = b2 * in(v) + c2 * square(in(g));
                out(n, m, v, w) = values(
                    mean, spread, keep * weight - step * mean / (sqrt(root * spread) + o.epsilon));
            },
            size > parameter_block);
    }

    void muon(const ParameterInfo& info, Index offset, T* parameters, const T* gradient,
              double scale) noexcept {
        const double momentum = options_.muon.momentum;
        const Index cols = info.cols();
        Index first = offset;
        for (int part = 0; part < info.parts.count; ++part) {
            const Index rows = info.parts.height(part, info.rows()), size = rows * cols;
            const double shape =
                std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(cols)));
            const double rate = options_.muon.rate * scale * shape;
            T* const m = first_.data() + first;
            T* const w = parameters + first;
            const T* const g = gradient + first;
            Arena arena(workspace_.span());
            const MatrixView<T> update(arena.take<T>(size), rows, cols);
            const auto next = momentum * in(m) + in(g);
            out(size, m, update.data()) = values(next, momentum * next + in(g));
            newton_schulz(update, arena);
            out(size, w) -= rate * in(update.data());
            first += size;
        }
    }

    Index workspace_bytes() const noexcept {
        Index bytes = 0;
        for (const ParameterInfo& info : infos_) {
            if (info.law.group != OptimiserGroup::muon) continue;
            for (int part = 0; part < info.parts.count; ++part) {
                const Index rows = info.parts.height(part, info.rows());
                bytes = std::max(bytes, arena_bytes<T>(rows * info.cols()) +
                                            newton_schulz_workspace_bytes<T>(rows, info.cols()));
            }
        }
        return bytes;
    }

    std::vector<ParameterInfo> infos_;
    OptimiserOptions options_;
    Index begin_;
    AlignedBuffer<T> first_, second_;
    AlignedBuffer<std::byte> workspace_;
    std::int64_t steps_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
