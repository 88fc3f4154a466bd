// The register tiles of windowed attention. Queries stand in the lanes: a strip of queries is
// packed transposed once, [D, strip]; keys and values are read as they lie and broadcast. So scores
// and their softmax never cross lanes, and nothing is packed per key.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/transpose.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// The tiles that window_attention takes beside 0, in queries: whole batches of every instruction
// set.
constexpr bool window_attention_has_tile(Index queries) noexcept {
    return queries >= 16 && queries <= 128 && queries % 16 == 0;
}

namespace detail {

// Shapes for T on this instruction set, with strips of Queries queries; 0: of as many as one
// register tile has. A tile of rows × group accumulators hides the latency of the multiply-add (4
// cycles, 2 ports) and leaves registers for the loads.
template <Real T, Index Queries>
struct AttentionTile {
    static_assert(Queries == 0 || window_attention_has_tile(Queries),
                  "hydralm: chunk: must be a multiple of 16 up to 128; 0 takes the fastest");

    static constexpr Index lanes = simd::lanes<T>;
    static constexpr Index fastest = simd::registers >= 32 ? 2 : 3;  // batches of a register tile
    static constexpr Index batches = Queries == 0 ? fastest : Queries / lanes;  // in a strip
    static constexpr Index group = std::min(batches, fastest);  // of them in a register tile
    static constexpr Index rows =
        simd::registers >= 32 ? 8 : 4;  // keys or head dimensions in a register tile
    static constexpr Index strip = lanes * batches;
    static constexpr Index keys =
        64;  // of a key tile, which begins at a multiple of this in absolute position
};

// The strips of one sequence against its key tiles, in local rows (row j of the keys, query i at
// row past + i). phase: absolute position of key row 0, modulo the key tile.
struct AttentionRange {
    Index past, queries, window, phase;
};

template <class Tile>
constexpr AttentionRange attention_range(Index past, Index queries, Index window,
                                         std::int64_t first_position) noexcept {
    constexpr Index tile = Tile::keys;
    return {past, queries, window,
            static_cast<Index>(((first_position - past) % tile + tile) % tile)};
}

// Calls whole(first, last) for the key tiles that every query of the strip sees whole, edge(first,
// last, batch, masked) for each batch of queries on the others, [first, last) being the keys that
// some query of it sees. Ascending order.
template <class Tile, class Whole, class Edge>
[[gnu::always_inline]] inline void for_key_tiles(const AttentionRange& range, Index first_query,
                                                 const Whole& whole, const Edge& edge) noexcept {
    const Index row = range.past + first_query, end = range.past + range.queries;
    const Index last = std::min(end, row + Tile::strip);
    for (Index j = std::max<Index>(0, row - range.window + 1); j < last;) {
        const Index next = std::min(last, j + Tile::keys - (range.phase + j) % Tile::keys);
        if (next - 1 <= row && j > row + Tile::strip - 1 - range.window) {
            whole(j, next);
        } else {
            for (Index b = 0; b < Tile::batches; ++b) {
                const Index own = row + b * Tile::lanes;
                const Index from = std::max(j, own - range.window + 1),
                            to = std::min(next, own + Tile::lanes);
                if (from < to)
                    edge(from, to, b, to - 1 > own || from <= own + Tile::lanes - 1 - range.window);
            }
        }
        j = next;
    }
}

// Lane i of the result: x where query row + i sees key j, other elsewhere.
template <Real T>
[[gnu::always_inline]] inline simd::Batch<T> where_visible(Index j, Index row, Index window,
                                                           const simd::Batch<T>& x,
                                                           const simd::Batch<T>& other) noexcept {
    constexpr Index L = simd::lanes<T>;
    alignas(alignment) static constexpr auto lane = [] {
        std::array<T, static_cast<std::size_t>(L)> index{};
        for (Index i = 0; i < L; ++i) index[static_cast<std::size_t>(i)] = static_cast<T>(i);
        return index;
    }();
    const auto i = simd::load(lane.data());
    const auto low = simd::broadcast(static_cast<T>(std::clamp<Index>(j - row, 0, L)));
    const auto high = simd::broadcast(static_cast<T>(std::clamp<Index>(j - row + window, 0, L)));
    return simd::select(i < low, other, simd::select(i < high, x, other));
}

// f(count, first): the batches of a strip in register tiles of count batches from batch first on,
// single ones at the end.
template <class Tile, class F>
[[gnu::always_inline]] inline void for_groups(const F& f) noexcept {
    constexpr Index whole = Tile::batches / Tile::group;
    simd::unroll<whole>(
        [&](auto g) { f(std::integral_constant<Index, Tile::group>{}, g * Tile::group); });
    for (Index b = whole * Tile::group; b < Tile::batches; ++b)
        f(std::integral_constant<Index, 1>{}, b);
}

// out[r, i] = Σ_d matrix[r, d] · packed[d, i] for r < Rows; packed and out have rows of strip
// elements.
template <class Tile, Index D, Index Rows, Index Batches, Real T>
[[gnu::always_inline]] inline void product_tile(const T* matrix, Index stride, const T* packed,
                                                T* out) noexcept {
    LocalGrid<simd::Batch<T>, Rows, Batches> sum;
    simd::unroll<Rows>(
        [&](auto r) { simd::unroll<Batches>([&](auto b) { sum[r][b] = simd::Batch<T>(T(0)); }); });
#pragma GCC unroll 4
    for (Index d = 0; d < D; ++d) {
        LocalArray<simd::Batch<T>, Batches> p;
        simd::unroll<Batches>(
            [&](auto b) { p[b] = simd::load(packed + d * Tile::strip + b * Tile::lanes); });
        simd::unroll<Rows>([&](auto r) {
            const auto m = simd::broadcast(matrix[r * stride + d]);
            simd::unroll<Batches>([&](auto b) { sum[r][b] = simd::fma<T>(m, p[b], sum[r][b]); });
        });
    }
    simd::unroll<Rows>([&](auto r) {
        simd::unroll<Batches>(
            [&](auto b) { simd::store(out + r * Tile::strip + b * Tile::lanes, sum[r][b]); });
    });
}

// The same for any number of rows. The last tile of rows may overlap the one before it: it writes
// the same bits again.
template <class Tile, Index D, Index Batches, Real T>
inline void product(const T* matrix, Index stride, Index rows, const T* packed, T* out) noexcept {
    const auto run = [&]<Index Rows>(std::integral_constant<Index, Rows>) {
        for (Index r = 0; r < rows; r += Rows) {
            const Index at = std::min(r, rows - Rows);
            product_tile<Tile, D, Rows, Batches>(matrix + at * stride, stride, packed,
                                                 out + at * Tile::strip);
        }
    };
    if (rows >= Tile::rows) run(std::integral_constant<Index, Tile::rows>{});
    else run(std::integral_constant<Index, 1>{});
}

// packed[d, i] = packed[d, i] · factor_i + Σ_{r < rows} matrix[r, d] · weights[r, i]. factor:
// Batches batches.
template <class Tile, Index D, Index Batches, Real T>
inline void accumulate(const T* matrix, Index stride, Index rows, const T* weights,
                       const simd::Batch<T>* factor, T* packed) noexcept {
    const auto run = [&]<Index Dims>(std::integral_constant<Index, Dims>,
                                     Index d) __attribute__((always_inline)) {
        LocalGrid<simd::Batch<T>, Dims, Batches> sum;
        T* const p = packed + d * Tile::strip;
        simd::unroll<Dims>([&](auto i) {
            simd::unroll<Batches>([&](auto b) {
                sum[i][b] = simd::load(p + i * Tile::strip + b * Tile::lanes) * factor[b];
            });
        });
#pragma GCC unroll 4
        for (Index r = 0; r < rows; ++r) {
            LocalArray<simd::Batch<T>, Batches> w;
            simd::unroll<Batches>(
                [&](auto b) { w[b] = simd::load(weights + r * Tile::strip + b * Tile::lanes); });
            simd::unroll<Dims>([&](auto i) {
                const auto m = simd::broadcast(matrix[r * stride + d + i]);
                simd::unroll<Batches>(
                    [&](auto b) { sum[i][b] = simd::fma<T>(m, w[b], sum[i][b]); });
            });
        }
        simd::unroll<Dims>([&](auto i) {
            simd::unroll<Batches>(
                [&](auto b) { simd::store(p + i * Tile::strip + b * Tile::lanes, sum[i][b]); });
        });
    };
    Index d = 0;
    for (; d + Tile::rows <= D; d += Tile::rows)
        run(std::integral_constant<Index, Tile::rows>{}, d);
    if constexpr (D % Tile::rows != 0) run(std::integral_constant<Index, 4>{}, d);
}

// packed[d, i] = factor · matrix[i, d] for i < rows, 0 for the rest of the strip.
template <class Tile, Index D, Real T>
inline void pack_strip(const T* matrix, Index stride, Index rows, T factor, T* packed) noexcept {
    constexpr Index L = Tile::lanes;
    constexpr Index squares = D / L * L;  // columns that are packed a square of lanes at a time
    for (Index i = 0; i < Tile::strip; i += L)
        for (Index d = 0; d < squares; d += L) {
            std::array<simd::Batch<T>, static_cast<std::size_t>(L)> x;
            simd::unroll<L>([&](auto l) {
                x[l] = i + l < rows ? factor * simd::load(matrix + (i + l) * stride + d)
                                    : simd::broadcast(T(0));
            });
            simd::transpose<T>(x);
            simd::unroll<L>([&](auto l) { simd::store(packed + (d + l) * Tile::strip + i, x[l]); });
        }
    for (Index d = squares; d < D; ++d)
        for (Index i = 0; i < Tile::strip; ++i)
            packed[d * Tile::strip + i] = i < rows ? factor * matrix[i * stride + d] : T(0);
}

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE::kernels
