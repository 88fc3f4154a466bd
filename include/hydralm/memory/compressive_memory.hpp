// CompressiveMemory: attention over an endless stream of keys and values in memory that never
// grows.
//
//   exact      the last w tokens always, and up to r − 1 older ones that wait to be pooled
//   summaries  at most n_summary pairs, each of r tokens: Σ p_i k_i and Σ p_i v_i, p_i = 1/r or
//              learned
//   tombstone  the decayed mean of the pairs that left, weights (1 − 1/n_summary)^age; stands for
//              m = min(tokens that left, n_summary·r)
//
// One softmax over all pairs; the score of a pair that stands for m tokens is scale·q·k + ln m, so
// that equal tokens weigh the same pooled or not. While nothing was pooled this is exact attention.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// T: float or double. Dim: width of keys and queries; ValueDim: of values. A value: a copy is a
// snapshot that goes on by itself; a moved-from memory may be assigned to or destroyed. A const
// memory may be read by many threads.
template <Real T, Index Dim, Index ValueDim = Dim>
class CompressiveMemory {
    static_assert(Dim >= 1 && ValueDim >= 1,
                  "hydralm: CompressiveMemory: Dim and ValueDim must be positive; Dim is the width "
                  "of a key");

public:
    using Scalar = T;
    static constexpr Index key_dim = Dim;
    static constexpr Index value_dim = ValueDim;

    // window: w, n_summary, ratio: r, all in [1, 2^31]; scale: of scores, finite. Allocates
    // bytes(window, n_summary, ratio), the last allocation there is. Throws Error otherwise.
    CompressiveMemory(Index window, Index n_summary, Index ratio,
                      T scale = T(1) / std::sqrt(static_cast<T>(Dim)))
        : window_(checked("window", window)),
          n_summary_(checked("n_summary", n_summary)),
          ratio_(checked("ratio", ratio)),
          scale_(scale),
          keys_(slots(window, n_summary, ratio) * Dim),
          values_(slots(window, n_summary, ratio) * ValueDim),
          pooling_(ratio) {
        if (!std::isfinite(scale))
            raise({.field = "scale",
                   .expected = "a finite number",
                   .found = std::to_string(scale),
                   .fix = "1/sqrt(Dim) is usual"});
        std::fill(pooling_.begin(), pooling_.end(), T(1) / static_cast<T>(ratio));
    }

    // Memory of keys, values and pooling weights.
    static constexpr Index bytes(Index window, Index n_summary, Index ratio) noexcept {
        return (slots(window, n_summary, ratio) * (Dim + ValueDim) + ratio) *
               static_cast<Index>(sizeof(T));
    }
    Index bytes() const noexcept { return bytes(window_, n_summary_, ratio_); }

    // p [ratio], the oldest token first: used as given for keys and values of what is pooled from
    // now on. Throws Error for another number of weights or one that is not finite.
    void set_pooling(std::span<const T> weights) {
        expect("pooling weights", ratio_, weights.size());
        for (const T weight : weights)
            if (!std::isfinite(weight))
                raise({.field = "pooling weights",
                       .expected = "finite numbers",
                       .found = std::to_string(weight),
                       .fix = "1/ratio each is the mean"});
        std::copy(weights.begin(), weights.end(), pooling_.begin());
    }

    // The next token of the stream: key [Dim], value [ValueDim]. No allocation. Throws Error for
    // other sizes. Cost: one copy of a token; every ratio-th time ratio tokens are pooled.
    void append(std::span<const T> key, std::span<const T> value) {
        expect("key", Dim, key.size());
        expect("value", ValueDim, value.size());
        const Index slot = first_exact() + (oldest_ + exact_) % capacity();
        std::copy(key.begin(), key.end(), keys_.data() + slot * Dim);
        std::copy(value.begin(), value.end(), values_.data() + slot * ValueDim);
        ++tokens_;
        if (++exact_ == capacity()) pool();
    }

    // out [ValueDim] = Σ softmax_i(scale·query·k_i + ln m_i) v_i over all tiers, query [Dim]; zeros
    // before the first token. out must not overlap query. No allocation. Throws Error for other
    // sizes. Cost: 2·(Dim + ValueDim) FLOP a pair, at most window + ratio + n_summary pairs.
    void attend(std::span<const T> query, std::span<T> out) const {
        expect("query", Dim, query.size());
        expect("out", ValueDim, out.size());
        std::fill(out.begin(), out.end(), T(0));
        Softmax sum{-std::numeric_limits<T>::infinity(), T(0)};
        if (left_ > 0) add(query.data(), 0, 1, log_of(tombstone_tokens()), sum, out.data());
        add(query.data(), 1, summaries_, log_of(ratio_), sum, out.data());
        // the ring's occupied slots are one or two stretches
        const Index before_end = std::min(exact_, capacity() - oldest_);
        add(query.data(), first_exact() + oldest_, before_end, T(0), sum, out.data());
        add(query.data(), first_exact(), exact_ - before_end, T(0), sum, out.data());
        if (tokens_ > 0) hydralm::out<ValueDim>(out.data()) *= T(1) / sum.total;
    }

    // Forgets the stream; pooling weights stay.
    void reset() noexcept {
        oldest_ = exact_ = summaries_ = next_summary_ = 0;
        tokens_ = left_ = 0;
        decayed_weight_ = 0;
    }

    // Tokens appended so far, and where they are: tokens = exact + ratio·summaries + those that
    // left. tombstone_tokens: what the tombstone counts as.
    std::int64_t tokens() const noexcept { return tokens_; }
    Index exact_tokens() const noexcept { return exact_; }
    Index summaries() const noexcept { return summaries_; }
    std::int64_t tokens_left() const noexcept { return left_; }
    std::int64_t tombstone_tokens() const noexcept {
        return std::min<std::int64_t>(left_, n_summary_ * ratio_);
    }
    Index window() const noexcept { return window_; }
    Index n_summary() const noexcept { return n_summary_; }
    Index ratio() const noexcept { return ratio_; }

private:
    // Slots: 0 the tombstone, then n_summary summaries and w + r exact tokens, two rings.
    static constexpr Index slots(Index window, Index n_summary, Index ratio) noexcept {
        return 1 + n_summary + window + ratio;
    }
    Index capacity() const noexcept { return window_ + ratio_; }
    Index first_exact() const noexcept { return 1 + n_summary_; }
    static T log_of(std::int64_t count) noexcept {
        return static_cast<T>(std::log(static_cast<double>(count)));
    }

    // y ← y + a·x.
    static void multiply_add(Index n, T* y, T a, const T* x) noexcept {
        out(n, y) = fma(a, in(x), in(y));
    }

    // The r oldest exact tokens become a summary; when there is no room, the oldest summary leaves.
    void pool() noexcept {
        const Index slot = 1 + next_summary_;
        if (summaries_ == n_summary_) bury(slot);
        else ++summaries_;
        next_summary_ = (next_summary_ + 1) % n_summary_;
        T* const key = keys_.data() + slot * Dim;
        T* const value = values_.data() + slot * ValueDim;
        std::fill_n(key, Dim, T(0));
        std::fill_n(value, ValueDim, T(0));
        for (Index i = 0; i < ratio_; ++i) {
            const Index from = first_exact() + (oldest_ + i) % capacity();
            multiply_add(Dim, key, pooling_[i], keys_.data() + from * Dim);
            multiply_add(ValueDim, value, pooling_[i], values_.data() + from * ValueDim);
        }
        oldest_ = (oldest_ + ratio_) % capacity();
        exact_ -= ratio_;
    }

    // tombstone ← tombstone + (pair − tombstone)/W, W = Σ (1 − 1/n_summary)^age → n_summary.
    void bury(Index slot) noexcept {
        decayed_weight_ = 1 + (1 - 1 / static_cast<double>(n_summary_)) * decayed_weight_;
        const T rate = static_cast<T>(1 / decayed_weight_);
        const auto blend = [rate](Index n, T* mean, const T* x) {
            if (rate < T(1)) out(n, mean) *= T(1) - rate;
            else std::fill_n(mean, n, T(0));
            multiply_add(n, mean, rate, x);
        };
        blend(Dim, keys_.data(), keys_.data() + slot * Dim);
        blend(ValueDim, values_.data(), values_.data() + slot * ValueDim);
        left_ += ratio_;
    }

    // A softmax under way: out holds Σ e^(score − largest) v, total the sum of the weights.
    struct Softmax {
        T largest, total;
    };
    void add(const T* query, Index first, Index count, T log_count, Softmax& sum,
             T* out) const noexcept {
        constexpr Index block = 64;
        std::array<T, block> weight;
        for (const Index end = first + count; first < end; first += block) {
            const Index n = std::min(block, end - first);
            for (Index i = 0; i < n; ++i)
                weight[static_cast<std::size_t>(i)] =
                    scale_ * dot(view<Dim>(query), in(keys_.data() + (first + i) * Dim)) +
                    log_count;
            const T largest = std::max(sum.largest, max(view(weight.data(), n)));
            if (largest > sum.largest) {
                const T kept = std::exp(sum.largest - largest);
                sum.total *= kept;
                hydralm::out<ValueDim>(out) *= kept;
                sum.largest = largest;
            }
            hydralm::out(n, weight.data()) = exp(in(weight.data()) - largest);
            for (Index i = 0; i < n; ++i) {
                sum.total += weight[static_cast<std::size_t>(i)];
                multiply_add(ValueDim, out, weight[static_cast<std::size_t>(i)],
                             values_.data() + (first + i) * ValueDim);
            }
        }
    }

    static Index checked(const char* field, Index value) {
        if (value < 1 || value > Index{1} << 31)  // products of two stay inside 64 bits
            raise({.field = field,
                   .expected = "1 to 2^31",
                   .found = std::to_string(value),
                   .fix = "memory is window + ratio + n_summary pairs and one more"});
        return value;
    }
    static void expect(const char* field, Index expected, std::size_t found) {
        if (static_cast<std::size_t>(expected) != found)
            raise({.field = field,
                   .expected = std::to_string(expected) + " values",
                   .found = std::to_string(found),
                   .fix = "the memory's type and constructor say the sizes"});
    }

    Index window_, n_summary_, ratio_;
    T scale_;
    Index oldest_ = 0, exact_ = 0;            // of the ring of exact tokens
    Index summaries_ = 0, next_summary_ = 0;  // of the ring of summaries
    std::int64_t tokens_ = 0, left_ = 0;
    double decayed_weight_ = 0;  // W
    AlignedBuffer<T> keys_;      // [slots, Dim]
    AlignedBuffer<T> values_;    // [slots, ValueDim]
    AlignedBuffer<T> pooling_;   // [ratio]
};

}  // namespace HYDRALM_NAMESPACE
