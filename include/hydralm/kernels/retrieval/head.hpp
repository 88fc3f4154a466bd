// RetrievalHead: where one head's keys, values, gates and summaries lie in the pages of a bank, how
// they are written, and how they are read in every format.
//
// Keys and summaries lie transposed, so that scores are sums of rows. Rows are padded to 64 bytes,
// of whatever instruction set; the padding is zero.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/core/bfloat16.hpp"
#include "hydralm/kernels/retrieval/bank.hpp"
#include "hydralm/simd/map.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// A bank of T, head dimension D, C tokens a chunk.
template <Real T, Index D, Index C>
class RetrievalHead {
public:
    static constexpr Index unit = static_cast<Index>(alignment / sizeof(T));  // of every row
    static constexpr Index key_stride = round_up(C, unit);
    static constexpr Index value_stride = round_up(D, unit);
    static constexpr Index group = RetrievalBank::group;

    // top_k: past chunks that a token reads beside its own.
    static constexpr RetrievalBankLayout layout(Index heads, Index top_k = 0) noexcept {
        constexpr auto size = static_cast<Index>(sizeof(T));
        return {C,
                {heads * places(BankFormat::exact).bytes, heads * places(BankFormat::bf16).bytes,
                 heads * places(BankFormat::int8).bytes},
                heads * summary_elements * size,
                heads * mean_elements * size,
                heads,
                heads * (top_k + 1)};
    }

    RetrievalHead(const RetrievalBank& bank, Index head) noexcept : bank_(&bank), head_(head) {}

    const RetrievalBank& bank() const noexcept { return *bank_; }

    // Of a chunk in the exact format, where the gradient of a stream reads and writes.
    T* keys(Index c) const noexcept { return part<T>(c, exact.keys); }      // [D, key_stride]
    T* values(Index c) const noexcept { return part<T>(c, exact.values); }  // [C, value_stride]
    // In any format, [key_stride].
    T* gates(Index c) const noexcept { return part<T>(c, 0); }

    T* summaries(Index g) const noexcept {  // [D, group]: column c mod group is s_c
        return reinterpret_cast<T*>(bank_->summaries(g)) + head_ * summary_elements;
    }
    T* sums(Index level) const noexcept {  // [D, group]: column g mod group is Σ s_c of a group
        return reinterpret_cast<T*>(bank_->sums(level)) + head_ * summary_elements;
    }
    // In a bounded bank, [D] each: the mean value of chunk c; the decayed means of the summaries
    // and of the mean values of chunks 0 … c.
    T* mean_value(Index c) const noexcept { return means(c); }
    T* far_summary(Index c) const noexcept { return means(c) + D; }
    T* far_value(Index c) const noexcept { return means(c) + 2 * D; }

    // Keys and values of a chunk as numbers: where they lie, or decoded into scratch.
    struct Chunk {
        const T* keys;    // [D, key_stride]
        const T* values;  // [C, value_stride]
    };
    static constexpr Index scratch_elements = D * key_stride + C * value_stride;
    Chunk read(Index c, T* scratch) const noexcept {
        if (format() == BankFormat::exact) return {keys(c), values(c)};
        T* const decoded_values = scratch + D * key_stride;
        read_keys(c, scratch);
        if (format() == BankFormat::bf16) {
            decode(C * value_stride, part<std::uint16_t>(c, bf16.values), decoded_values);
        } else {
            const T* const scales = part<T>(c, int8.value_scales);
            for (Index j = 0; j < C; ++j)
                decode(
                    value_stride, part<std::int8_t>(c, int8.values) + j * value_stride,
                    [s = scales[j]](Index) { return s; }, decoded_values + j * value_stride);
        }
        return {scratch, decoded_values};
    }

    // Begins to bring what read reads into the cache. What a query chose lies anywhere in memory.
    void fetch(Index c) const noexcept {
        constexpr std::array<Index, 3> bytes{exact.bytes, bf16.bytes, int8.bytes};
        fetch(part<std::byte>(c, 0), bytes[static_cast<std::size_t>(format())]);
    }
    void fetch_summaries(Index g) const noexcept {
        fetch(reinterpret_cast<const std::byte*>(summaries(g)),
              summary_elements * static_cast<Index>(sizeof(T)));
    }

    // Token t: unit key and value [D], gate γ.
    void put(std::int64_t t, const T* key, const T* value, T gate) const noexcept {
        const auto c = static_cast<Index>(t / C), j = static_cast<Index>(t % C);
        gates(c)[j] = gate;
        if (format() == BankFormat::exact) {
            scatter(keys(c) + j, key, [](T x) { return x; });
            std::copy_n(value, D, values(c) + j * value_stride);
        } else if (format() == BankFormat::bf16) {
            const auto round = [](T x) { return bf16_from(x); };
            scatter(part<std::uint16_t>(c, bf16.keys) + j, key, round);
            std::transform(value, value + D, part<std::uint16_t>(c, bf16.values) + j * value_stride,
                           round);
        } else {
            T& key_scale = part<T>(c, int8.key_scales)[j];
            T& value_scale = part<T>(c, int8.value_scales)[j];
            key_scale = scale_of(key);
            value_scale = scale_of(value);
            scatter(part<std::int8_t>(c, int8.keys) + j, key, rounded_to(key_scale));
            std::transform(value, value + D, part<std::int8_t>(c, int8.values) + j * value_stride,
                           rounded_to(value_scale));
        }
    }

    // What is kept of chunk c once it is whole, from what was put: s_c = Σ_j γ_j k̂_j in the order
    // of positions; in a bounded bank its means; else, at the end of a group, the group's sum.
    void summarise(Index c, T* scratch) const noexcept {
        const T* k = keys(c);
        if (format() != BankFormat::exact) k = read_keys(c, scratch);
        const T* const g = gates(c);
        T* const s = summaries(c / group) + c % group;
        constexpr Index block = 4;  // D is a multiple of it
        for (Index d = 0; d < D; d += block) {
            T sum[block] = {};
            for (Index j = 0; j < C; ++j)
                for (Index i = 0; i < block; ++i)
                    sum[i] = simd::fma<T>(g[j], k[(d + i) * key_stride + j], sum[i]);
            for (Index i = 0; i < block; ++i) s[(d + i) * group] = sum[i];
        }
        if (bank_->policy().bounded()) keep_means(c, s, scratch);
        else if (c % group == group - 1) sum_group(c / group);
    }

private:
    // Where the parts of a chunk page lie, in bytes; gates first.
    struct Places {
        Index keys, values, key_scales, value_scales, bytes;
    };
    static constexpr Places places(BankFormat format) noexcept {
        constexpr auto line = static_cast<Index>(alignment);
        const Index row = key_stride * static_cast<Index>(sizeof(T)),
                    width = format == BankFormat::exact  ? static_cast<Index>(sizeof(T))
                            : format == BankFormat::bf16 ? 2
                                                         : 1;
        Places p{};
        p.key_scales = row;
        p.value_scales = p.key_scales + (format == BankFormat::int8 ? row : 0);
        p.keys = p.value_scales + (format == BankFormat::int8 ? row : 0);
        p.values = p.keys + round_up(D * key_stride * width, line);
        p.bytes = p.values + round_up(C * value_stride * width, line);
        return p;
    }
    static constexpr Places exact = places(BankFormat::exact), bf16 = places(BankFormat::bf16),
                            int8 = places(BankFormat::int8);
    static constexpr Index summary_elements = D * group;
    static constexpr Index mean_elements = 3 * D * group;

    BankFormat format() const noexcept { return bank_->policy().format; }
    template <class U>
    U* part(Index c, Index offset) const noexcept {
        const auto of_page = static_cast<std::size_t>(format());
        constexpr std::array<Index, 3> bytes{exact.bytes, bf16.bytes, int8.bytes};
        return reinterpret_cast<U*>(bank_->chunk(c) + head_ * bytes[of_page] + offset);
    }
    T* means(Index c) const noexcept {
        return reinterpret_cast<T*>(bank_->means(c / group)) + head_ * mean_elements +
               c % group * 3 * D;
    }

    static void fetch(const std::byte* from, Index bytes) noexcept {
        for (Index i = 0; i < bytes; i += static_cast<Index>(alignment))
            __builtin_prefetch(from + i, 0, 2);
    }
    static void decode(Index n, const std::uint16_t* from, T* to) noexcept {
        for (Index i = 0; i < n; ++i) to[i] = static_cast<T>(float_from_bf16(from[i]));
    }
    template <class Scale>
    static void decode(Index n, const std::int8_t* from, Scale scale, T* to) noexcept {
        for (Index i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]) * scale(i);
    }
    const T* read_keys(Index c, T* to) const noexcept {
        if (format() == BankFormat::bf16) {
            decode(D * key_stride, part<std::uint16_t>(c, bf16.keys), to);
        } else {
            const T* const scales = part<T>(c, int8.key_scales);
            for (Index d = 0; d < D; ++d)
                decode(
                    key_stride, part<std::int8_t>(c, int8.keys) + d * key_stride,
                    [scales](Index j) { return scales[j]; }, to + d * key_stride);
        }
        return to;
    }
    template <class U, class F>
    static void scatter(U* column, const T* key, F f) noexcept {
        for (Index d = 0; d < D; ++d) column[d * key_stride] = f(key[d]);
    }
    // NaN for values that are not all finite: what cannot be kept comes back as NaN.
    static T scale_of(const T* x) noexcept {
        T largest(0), poison(0);
        for (Index d = 0; d < D; ++d) {
            largest = std::max(largest, std::abs(x[d]));
            poison += x[d] * T(0);
        }
        return largest / T(127) + poison;
    }
    static auto rounded_to(T scale) noexcept {
        return [scale](T x) -> std::int8_t {
            if (!(scale > T(0))) return 0;  // times 0 or NaN
            return static_cast<std::int8_t>(std::lrint(std::clamp(x / scale, T(-127), T(127))));
        };
    }

    // far_c = far_{c−1} + (chunk c − far_{c−1})/W_c, W_c = Σ_{i≤c} (1 − 1/n)^i, n = pooled_chunks.
    void keep_means(Index c, const T* summary, T* scratch) const noexcept {
        const T* const v = read(c, scratch).values;
        T* const mean = mean_value(c);
        std::fill_n(mean, D, T(0));
        for (Index j = 0; j < C; ++j)
            for (Index d = 0; d < D; ++d) mean[d] += v[j * value_stride + d];
        for (Index d = 0; d < D; ++d) mean[d] /= T(C);
        const auto n = static_cast<double>(bank_->policy().pooled_chunks);
        const T rate =
            static_cast<T>(1 / (n * (1 - std::pow(1 - 1 / n, static_cast<double>(c + 1)))));
        const auto blend = [&](T* far, const T* before, Index d, T x) {
            far[d] = c == 0 ? x : before[d] + rate * (x - before[d]);
        };
        const T* const summary_before = c == 0 ? nullptr : far_summary(c - 1);
        const T* const value_before = c == 0 ? nullptr : far_value(c - 1);
        for (Index d = 0; d < D; ++d) {
            blend(far_summary(c), summary_before, d, summary[d * group]);
            blend(far_value(c), value_before, d, mean[d]);
        }
    }
    void sum_group(Index g) const noexcept {
        const T* const s = summaries(g);
        T* const column = sums(g / group) + g % group;
        for (Index d = 0; d < D; ++d) {
            T sum(0);
            for (Index i = 0; i < group; ++i) sum += s[d * group + i];
            column[d * group] = sum;
        }
    }

    const RetrievalBank* bank_;
    Index head_;
};

}  // namespace HYDRALM_NAMESPACE::kernels
