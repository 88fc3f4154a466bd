// RetrievalHead: where one head's keys, values, gates and summaries lie in the pages of the past,
// how they are written, and how they are read in every format. Summaries lie transposed, as keys
// do.
#pragma once

#include <array>

#include "hydralm/kernels/chunk_search/search.hpp"
#include "hydralm/kernels/chunk_search/tree.hpp"
#include "hydralm/kernels/key_value_page.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// What a stream has of the past, all heads of it: its pages, and how a token searches them.
struct RetrievalPast {
    static constexpr Index group = chunk_group;

    PageView chunks{};  // keys, values and gates of C tokens
    // Summaries of 64 chunks, in bounded memory, behind those of all heads, means; then, but in
    // bounded memory, sums of 64 groups, and of 64 nodes of every height but the last.
    std::array<PageView, tree_heights> summaries{};
    Index heads = 1;
    BankFormat format = BankFormat::exact;
    PastBounds bounds{};
    Index open_groups = 0;   // that a token looks into; 0: all of them
    Index chunk_tokens = 0;  // of a chunk, where its type leaves them open
};

// The past of T, head dimension D, C tokens a chunk; with Open chunks as many as the past says, at
// most C.
template <Real T, Index D, Index C, bool Open = false>
class RetrievalHead {
public:
    using Scalar = T;
    using Page = KeyValuePage<T, D, C>;
    static constexpr Index key_stride = Page::key_stride;
    static constexpr Index value_stride = Page().value_stride();
    static constexpr Index group = RetrievalPast::group;
    static constexpr Index most_tokens = C;
    constexpr Index chunk_tokens() const noexcept { return Open ? past_.chunk_tokens : C; }

    // That a head takes of a chunk page; of a page of summaries or sums; of a group's means in
    // bounded memory.
    static constexpr Index chunk_bytes(BankFormat format) noexcept {
        return gate_bytes + Page().bytes(format);
    }
    static constexpr Index summary_bytes = D * group * static_cast<Index>(sizeof(T));
    static constexpr Index mean_bytes = 3 * summary_bytes;

    RetrievalHead(const RetrievalPast& past, Index head) noexcept : past_(past), head_(head) {}

    const RetrievalPast& past() const noexcept { return past_; }

    // Of a chunk in the exact format, where the gradient of a stream reads and writes.
    T* keys(Index c) const noexcept { return Page().keys(page(c)); }      // [D, key_stride]
    T* values(Index c) const noexcept { return Page().values(page(c)); }  // [C, value_stride]
    // In any format, [key_stride].
    T* gates(Index c) const noexcept { return reinterpret_cast<T*>(part(c)); }

    // [D, group]: column n mod group is Σ s_c over node n of this height, of those in node i of the
    // next.
    T* summaries(Index height, Index i) const noexcept {
        const PageView& pages = past_.summaries[static_cast<std::size_t>(height)];
        return reinterpret_cast<T*>(pages.page(i) + head_ * summary_bytes);
    }
    T* summaries(Index g) const noexcept { return summaries(0, g); }
    // In bounded memory, [D] each: the mean value of chunk c; the decayed means of the summaries
    // and of the mean values of chunks 0 … c.
    T* mean_value(Index c) const noexcept { return means(c); }
    T* far_summary(Index c) const noexcept { return means(c) + D; }
    T* far_value(Index c) const noexcept { return means(c) + 2 * D; }

    // Keys and values of a chunk as numbers: where they lie, or decoded into scratch.
    using Chunk = typename Page::Rows;
    static constexpr Index scratch_elements = Page().scratch_elements();
    Chunk read(Index c, T* scratch) const noexcept {
        return Page().read(page(c), past_.format, scratch);
    }

    // Begins to bring what read reads into the cache. What a query chose lies anywhere in memory.
    void fetch(Index c) const noexcept { fetch(page(c), Page().bytes(past_.format)); }
    void fetch_summaries(Index height, Index i) const noexcept {
        fetch(reinterpret_cast<const std::byte*>(summaries(height, i)), summary_bytes);
    }

    // Token t: unit key and value [D], gate γ.
    void put(std::int64_t t, const T* key, const T* value, T gate) const noexcept {
        const Index chunk = chunk_tokens();
        const auto c = static_cast<Index>(t / chunk), j = static_cast<Index>(t % chunk);
        gates(c)[j] = gate;
        Page().put(page(c), past_.format, j, key, value);
    }

    // What is kept of chunk c once it is whole, from what was put: s_c = Σ_j γ_j k̂_j in the order
    // of positions; in bounded memory its means; else the sums of the nodes that it ends.
    void summarise(Index c, T* scratch) const noexcept {
        const T* const k = Page().read_keys(page(c), past_.format, scratch);
        const T* const g = gates(c);
        T* const s = summaries(c / group) + c % group;
        constexpr Index block = 4;  // D is a multiple of it
        for (Index d = 0; d < D; d += block) {
            T sum[block] = {};
            for (Index j = 0; j < chunk_tokens(); ++j)
                for (Index i = 0; i < block; ++i)
                    sum[i] = simd::fma<T>(g[j], k[(d + i) * key_stride + j], sum[i]);
            for (Index i = 0; i < block; ++i) s[(d + i) * group] = sum[i];
        }
        if (past_.bounds.bounded()) keep_means(c, s, scratch);
        else
            for_nodes_ended_by(c, [&](Index height, Index n) {
                sum_nodes<T>(D, summaries(height - 1, n), summaries(height, n / group) + n % group);
            });
    }

private:
    static constexpr Index gate_bytes = key_stride * static_cast<Index>(sizeof(T));

    std::byte* part(Index c) const noexcept {
        return past_.chunks.page(c) + head_ * chunk_bytes(past_.format);
    }
    std::byte* page(Index c) const noexcept { return part(c) + gate_bytes; }
    T* means(Index c) const noexcept {
        return reinterpret_cast<T*>(past_.summaries[0].page(c / group) +
                                    past_.heads * summary_bytes + head_ * mean_bytes) +
               c % group * 3 * D;
    }

    static void fetch(const std::byte* from, Index bytes) noexcept {
        for (Index i = 0; i < bytes; i += static_cast<Index>(alignment))
            __builtin_prefetch(from + i, 0, 2);
    }
    // far_c = far_{c−1} + (chunk c − far_{c−1})/W_c, W_c = Σ_{i≤c} (1 − 1/n)^i, n = pooled_chunks.
    void keep_means(Index c, const T* summary, T* scratch) const noexcept {
        const T* const v = read(c, scratch).values;
        T* const mean = mean_value(c);
        out<D>(mean) = 0;
        for (Index j = 0; j < chunk_tokens(); ++j) out<D>(mean) += in(v + j * value_stride);
        out<D>(mean) /= chunk_tokens();
        const auto n = static_cast<double>(past_.bounds.pooled_chunks);
        const T rate =
            static_cast<T>(1 / (n * (1 - std::pow(1 - 1 / n, static_cast<double>(c + 1)))));
        const auto blend = [&](T* far, const T* before, Index d, T x) {
            far[d] = c == 0 ? x : before[d] + rate * (x - before[d]);
        };
        const T* const summary_before = c == 0 ? nullptr : far_summary(c - 1);
        const T* const value_before = c == 0 ? nullptr : far_value(c - 1);
        for (Index d = 0; d < D; ++d) {  // by hand: all but mean lie group apart
            blend(far_summary(c), summary_before, d, summary[d * group]);
            blend(far_value(c), value_before, d, mean[d]);
        }
    }

    RetrievalPast past_;
    Index head_;
};

}  // namespace HYDRALM_NAMESPACE::kernels
