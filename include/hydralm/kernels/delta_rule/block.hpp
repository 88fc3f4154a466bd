// One block of the chunkwise gated delta rule: what depends on q, k and the gates, then one panel
// of columns of S.
//
// The columns of S (the values) do not see each other, so a panel of V batches of columns is
// carried through everything:
//   X = L⁻¹ β(V − E K S)     O = E Q S + A X     S' = e^Γ S + Kᵀ (F X)
// with the panel in the first-level cache and each tile of R tokens in registers from its product
// to its store. Symbols are those of README.md.
#pragma once

#include <array>
#include <cstring>

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/delta_rule/input.hpp"
#include "hydralm/simd/math.hpp"
#include "hydralm/simd/sum_each.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// N as the default of an argument, which must be given where N is dynamic.
template <Index N>
    requires(N != dynamic)
inline constexpr Index known_extent = N;

// Sizes fixed by the type; D dynamic: by the views.
template <Real T, Index D, Index Block>
struct GatedDeltaPlan {
    static_assert(
        D == dynamic || (D > 0 && D % 4 == 0),
        "hydralm: head_dim: must be a multiple of 4; choose d_model / n_heads accordingly");
    static_assert(Block >= 4 && (Block & (Block - 1)) == 0,
                  "hydralm: block: must be a power of two, 4 or more; 8 and 16 are the fast ones");

    static constexpr Index lanes = simd::lanes<T>;
    static constexpr Index batches = D == dynamic ? 0 : ceil_div(D, lanes);  // of one row
    static constexpr Index padded = batches * lanes;                         // zeros behind D
    static constexpr Index V = batches % 2 == 0 ? 2 : 1;  // batches of one panel, when D are values
    static constexpr Index R = simd::registers == 32 && Block % 8 == 0 ? 8 : 4;  // rows of one tile
    static constexpr Index width = V * lanes;  // columns of one panel
    static constexpr Index gates = round_up(Block * Block, lanes);
    // A tile of dot products, gram_rows x gram_cols, is one batch.
    static constexpr Index gram_cols = lanes >= 4 ? 4 : lanes;
    static constexpr Index gram_rows = lanes / gram_cols;

    // padded of d elements, which are D where the type says so.
    static constexpr Index padded_of(Index d) noexcept {
        return D == dynamic ? round_up(d, lanes) : padded;
    }
};

// Scratch of one call. Rows of q, k are packed: strides of a model's buffers may fall on the same
// cache sets.
template <Real T, Index D, Index V, Index Block>
struct GatedDeltaScratch {
    using Plan = GatedDeltaPlan<T, D, Block>;
    static constexpr Index width = GatedDeltaPlan<T, V, Block>::width;

    T* state;  // [panels, D, width]
    T* k;      // [Block, padded]
    T* q;      // [Block, padded]
    T* decay;  // [Block, Block]: D_ij for j ≤ i, at most 1 elsewhere
    T* m;      // [Block, Block]: M_ij for j < i, unspecified elsewhere
    T* a;      // [Block, Block]: A_ij for j ≤ i, unspecified elsewhere
    T* x;      // [Block, width]
    T* fx;     // [Block, width]: F ⊙ X
    T* e;      // [Block]: E
    T* f;      // [Block]: F
    T* beta;   // [Block]

    GatedDeltaScratch(Arena& arena, Index keys, Index values) noexcept
        : state(arena.take<T>(keys * round_up(values, width))),
          k(arena.take<T>(Block * Plan::padded_of(keys))),
          q(arena.take<T>(Block * Plan::padded_of(keys))),
          decay(arena.take<T>(Plan::gates)),
          m(arena.take<T>(Plan::gates)),
          a(arena.take<T>(Plan::gates)),
          x(arena.take<T>(Block * width)),
          fx(arena.take<T>(Block * width)),
          e(arena.take<T>(round_up(Block, Plan::lanes))),
          f(arena.take<T>(round_up(Block, Plan::lanes))),
          beta(arena.take<T>(Block)) {}

    // What meets fx in the update of S.
    const T* written() const noexcept { return k; }
};

// Bytes of a GatedDeltaScratch<T, D, V, block> of so many keys and values.
template <Real T, Index D, Index V>
constexpr Index gated_delta_scratch_bytes(Index block, Index keys, Index values) noexcept {
    using Plan = GatedDeltaPlan<T, D, 4>;  // padded and width do not depend on the block
    constexpr Index width = GatedDeltaPlan<T, V, 4>::width;
    const Index gates = round_up(block * block, Plan::lanes);
    return arena_bytes<T>(keys * round_up(values, width)) +
           2 * arena_bytes<T>(block * Plan::padded_of(keys)) + 3 * arena_bytes<T>(gates) +
           2 * arena_bytes<T>(block * width) + 2 * arena_bytes<T>(round_up(block, Plan::lanes)) +
           arena_bytes<T>(block);
}

// x ← e^x over count elements, in whole batches.
template <Real T>
void exponentiate(T* x, Index count) noexcept {
    for (Index i = 0; i < count; i += simd::lanes<T>)
        simd::store<T>(x + i, simd::exp(simd::load<T>(x + i)));
}

// Tokens with α = 0 cut a block into parts: what of E, F and D leads from one to another is 0.
template <Real T, Index D, Index Block, Index V, class Scratch>
void gated_delta_cut(const GatedDeltaInput<T, D, V>& input, Index c, const Scratch& w) noexcept {
    Index part = -1;  // first token of the part, if it is not the first one
    for (Index i = 0; i < Block; ++i) {
        if (i < c && forgets(static_cast<double>(input.log_decay[i]))) part = i;
        if (part >= 0) w.e[i] = 0;
        for (Index j = 0; j < part; ++j) w.decay[i * Block + j] = 0;
    }
    for (Index i = 0; i < part; ++i) w.f[i] = 0;
}

// β, E, F and D of c ≤ Block tokens, into beta, e, f and decay of w. Sums and differences in
// double, every exponent ≤ 0, sums begun anew where α = 0; behind c, g = β = 0.
template <Real T, Index D, Index Block, Index V, class Scratch>
[[gnu::flatten]] void gated_delta_gates(const GatedDeltaInput<T, D, V>& input, Index c,
                                        const Scratch& w) noexcept {
    using Plan = GatedDeltaPlan<T, D, Block>;
    LocalArray<double, Block> g;  // cumulated log decay
    double sum = 0;
    bool cut = false;
    for (Index i = 0; i < Block; ++i) {
        if (i < c) {
            sum += static_cast<double>(input.log_decay[i]);
            if (forgets(static_cast<double>(input.log_decay[i]))) {
                sum = 0;
                cut = true;
            }
        }
        g[i] = sum;
        w.beta[i] = i < c ? input.beta[i] : T(0);
        w.e[i] = static_cast<T>(sum);
    }
    for (Index i = 0; i < Block; ++i) w.f[i] = static_cast<T>(sum - g[i]);
    for (Index i = 0; i < Block; ++i)
        for (Index j = 0; j < Block; ++j)
            w.decay[i * Block + j] = static_cast<T>(std::min(g[i] - g[j], 0.0));
    exponentiate<T>(w.e, round_up(Block, Plan::lanes));
    exponentiate<T>(w.f, round_up(Block, Plan::lanes));
    for (Index i = 0; i < Block; i += std::max(Index(1), Plan::lanes / Block))
        exponentiate<T>(w.decay + i * Block, round_up(i + 1, Plan::lanes));
    if (cut) gated_delta_cut<T, D, Block>(input, c, w);
}

// Rows of source into [Block, padded], zeros behind D and behind row c.
template <Real T, Index D, Index Block>
[[gnu::flatten]] void gated_delta_pack(MatrixView<const T, D> source, Index c, T* packed) noexcept {
    using Plan = GatedDeltaPlan<T, D, Block>;
    const Index width = source.cols(), padded = Plan::padded_of(width);
    for (Index i = 0; i < Block; ++i, packed += padded) {
        for (Index j = 0; j < padded; j += Plan::lanes) {
            if (i >= c) simd::store<T>(packed + j, simd::Batch<T>(T(0)));
            else if (width - j >= Plan::lanes)
                simd::store<T>(packed + j, simd::load<T>(source.row(i) + j));
            else
                simd::store<T>(packed + j,
                               simd::load_partial<T>(source.row(i) + j, width % Plan::lanes));
        }
    }
}

// Fetches the tokens of the block to come: their rows are short and far apart, which no hardware
// prefetcher follows.
template <Real T, Index D, Index V, class Decay>
void gated_delta_prefetch(const GatedDeltaInput<T, D, V, Decay>& input, MatrixView<T, V> out,
                          Index first, Index count) noexcept {
    constexpr Index line = 64 / static_cast<Index>(sizeof(T));
    for (Index t = first; t < first + count; ++t) {
        for (Index i = 0; i < input.q.cols(); i += line) {
            __builtin_prefetch(input.q.row(t) + i);
            __builtin_prefetch(input.k.row(t) + i);
        }
        for (Index i = 0; i < input.v.cols(); i += line) {
            __builtin_prefetch(input.v.row(t) + i);
            __builtin_prefetch(out.row(t) + i, 1);
        }
        if constexpr (GatedDeltaInput<T, D, V, Decay>::per_channel)
            for (Index i = 0; i < input.log_decay.cols(); i += line)
                __builtin_prefetch(input.log_decay.row(t) + i);
        else __builtin_prefetch(&input.log_decay[t]);
        __builtin_prefetch(&input.beta[t]);
    }
}

// out[i, j] = rows_i · k_j for the tiles that meet j ≤ i. Rows of D elements, or of `width`.
template <Real T, Index D, Index Block>
[[gnu::flatten]] void gated_delta_gram(const T* rows, const T* k, T* out,
                                       Index width = D) noexcept {
    using Plan = GatedDeltaPlan<T, D, Block>;
    const Index padded = Plan::padded_of(width);
    constexpr Index gr = Plan::gram_rows;
    constexpr Index gc = Plan::gram_cols;
    for (Index i = 0; i < Block; i += gr) {
        for (Index j = 0; j < i + gr; j += gc) {
            std::array<simd::Batch<T>, static_cast<std::size_t>(Plan::lanes)> sums;
            simd::unroll<Plan::lanes>([&](auto l) { sums[l] = simd::Batch<T>(T(0)); });
            for (Index d = 0; d < padded; d += Plan::lanes) {  // rows and columns stay in registers
                LocalArray<simd::Batch<T>, gr> row;
                LocalArray<simd::Batch<T>, gc> column;
                simd::unroll<gr>(
                    [&](auto r) { row[r] = simd::load<T>(rows + (i + r) * padded + d); });
                simd::unroll<gc>(
                    [&](auto r) { column[r] = simd::load<T>(k + (j + r) * padded + d); });
                simd::unroll<Plan::lanes>(
                    [&](auto l) { sums[l] = simd::fma(row[l / gc], column[l % gc], sums[l]); });
            }
            alignas(alignment) LocalArray<T, Plan::lanes> tile;
            simd::store<T>(tile, simd::sum_each<T>(sums));
            for (Index r = 0; r < gr; ++r)
                std::memcpy(out + (i + r) * Block + j, &tile[r * gc], sizeof(T) * gc);
        }
    }
}

// The largest i with i² ≤ e.
constexpr Index integer_root(Index e) noexcept {
    Index i = 0;
    while ((i + 1) * (i + 1) <= e) ++i;
    return i;
}

// The dot products of a small block and no others: row i has 2i + 1 of them, so it begins at i² of
// Block².
//   out[i² + 2j] = q_i · k_j for j ≤ i      out[i² + 2j + 1] = k_i · k_j for j < i
template <Real T, Index D, Index Block>
[[gnu::flatten]] void gated_delta_pairs(const T* q, const T* k, T* out, Index width) noexcept {
    using Plan = GatedDeltaPlan<T, D, Block>;
    static_assert(Block * Block % Plan::lanes == 0);
    const Index padded = Plan::padded_of(width);
    simd::unroll<Block * Block / Plan::lanes>([&](auto group) {
        std::array<simd::Batch<T>, static_cast<std::size_t>(Plan::lanes)> sums;
        simd::unroll<Plan::lanes>([&](auto l) { sums[l] = simd::Batch<T>(T(0)); });
        for (Index d = 0; d < padded; d += Plan::lanes) {
            simd::unroll<Plan::lanes>([&](auto l) {
                constexpr Index pair = group * Plan::lanes + l;
                constexpr Index i = integer_root(pair);
                constexpr Index j = (pair - i * i) / 2;
                const T* row = (pair - i * i) % 2 == 0 ? q : k;
                sums[l] = simd::fma(simd::load<T>(row + i * padded + d),
                                    simd::load<T>(k + j * padded + d), sums[l]);
            });
        }
        simd::store<T>(out + group * Plan::lanes, simd::sum_each<T>(sums));
    });
}

// Everything of a block that S does not enter: E, F, M, A, packed q and k.
template <Real T, Index D, Index Block, Index V>
void gated_delta_prepare(const GatedDeltaInput<T, D, V>& input, Index c,
                         const GatedDeltaScratch<T, D, V, Block>& w) noexcept {
    const Index keys = input.k.cols();
    gated_delta_gates<T, D, Block>(input, c, w);
    gated_delta_pack<T, D, Block>(input.k, c, w.k);
    gated_delta_pack<T, D, Block>(input.q, c, w.q);
    if constexpr (Block <= 8) {
        alignas(alignment) LocalArray<T, Block * Block> pairs;
        gated_delta_pairs<T, D, Block>(w.q, w.k, pairs, keys);
        for (Index i = 0; i < Block; ++i) {
            for (Index j = 0; j <= i; ++j) {
                const Index ij = i * Block + j;
                w.a[ij] = pairs[i * i + 2 * j] * w.decay[ij];
                if (j < i) w.m[ij] = pairs[i * i + 2 * j + 1] * w.beta[i] * w.decay[ij];
            }
        }
    } else {
        gated_delta_gram<T, D, Block>(w.k, w.k, w.m, keys);
        gated_delta_gram<T, D, Block>(w.q, w.k, w.a, keys);
        for (Index i = 0; i < Block; ++i) {
            for (Index j = 0; j <= i; ++j) {
                w.m[i * Block + j] *= w.beta[i] * w.decay[i * Block + j];
                w.a[i * Block + j] *= w.decay[i * Block + j];
            }
        }
    }
}

// acc[r][v] += Σ_{d < length} a[r·lda + d] · b[d·width + v·lanes …].
template <Real T, Index R, Index V>
[[gnu::always_inline]] inline void multiply_tile(Index length, const T* a, Index lda, const T* b,
                                                 LocalGrid<simd::Batch<T>, R, V>& acc) noexcept {
    constexpr Index lanes = simd::lanes<T>;
    for (Index d = 0; d < length; ++d, b += V * lanes) {
        LocalArray<simd::Batch<T>, V> bd;
        simd::unroll<V>([&](auto v) { bd[v] = simd::load<T>(b + v * lanes); });
        simd::unroll<R>([&](auto r) {
            const simd::Batch<T> ar(a[r * lda + d]);
            simd::unroll<V>([&](auto v) { acc[r][v] = simd::fma(ar, bd[v], acc[r][v]); });
        });
    }
}

// One panel of one block: columns [column, column + width) of S, V and O. S is its [D, width].
// Partial: less of it than its width is there. Scratch: GatedDeltaScratch, or, with a decay for
// every key channel, GatedDeltaChannelScratch.
template <Real T, Index D, Index Block, bool Partial, Index Values, class Decay, class Scratch>
[[gnu::flatten]] void gated_delta_panel(const GatedDeltaInput<T, D, Values, Decay>& input, Index c,
                                        Index column, const Scratch& w, T* s,
                                        MatrixView<T, Values> out) noexcept {
    using simd::Batch;
    constexpr bool per_channel = GatedDeltaInput<T, D, Values, Decay>::per_channel;
    constexpr Index R = GatedDeltaPlan<T, D, Block>::R;
    constexpr Index V = GatedDeltaPlan<T, Values, Block>::V;
    constexpr Index lanes = simd::lanes<T>, width = V * lanes;
    const Index rows = round_up(c, R), keys = input.k.cols(),
                padded = GatedDeltaPlan<T, D, Block>::padded_of(keys);
    // Columns of batch v that are there.
    const auto held = [&](auto v) {
        if constexpr (Values != dynamic) return v == V - 1 ? Values % lanes : lanes;
        else return std::clamp<Index>(input.v.cols() - column - v * lanes, 0, lanes);
    };
    constexpr auto whole = [](auto v) { return !Partial || (Values != dynamic && v < V - 1); };

    for (Index i0 = 0; i0 < rows; i0 += R) {
        LocalGrid<Batch<T>, R, V> x;
        simd::unroll<R>(
            [&](auto r) { simd::unroll<V>([&](auto v) { x[r][v] = Batch<T>(T(0)); }); });
        multiply_tile<T, R, V>(keys, w.k + i0 * padded, padded, s, x);  // K S
        simd::unroll<R>([&](auto r) {
            const Batch<T> e(w.e[i0 + r]), beta(w.beta[i0 + r]);
            const T* value = input.v.row(i0 + r < c ? i0 + r : 0) + column;
            simd::unroll<V>([&](auto v) {
                Batch<T> target;
                if constexpr (whole(v)) target = simd::load<T>(value + v * lanes);
                else target = simd::load_partial<T>(value + v * lanes, held(v));
                x[r][v] = beta * (target - e * x[r][v]);
            });
        });
        for (Index j = 0; j < i0; ++j) {
            simd::unroll<R>([&](auto r) {
                const Batch<T> mij(-w.m[(i0 + r) * Block + j]);
                simd::unroll<V>([&](auto v) {
                    x[r][v] = simd::fma(mij, simd::load<T>(w.x + j * width + v * lanes), x[r][v]);
                });
            });
        }
        simd::unroll<R>([&](auto j) {
            simd::unroll<R>([&](auto r) {
                if constexpr (r > j) {
                    const Batch<T> mij(-w.m[(i0 + r) * Block + i0 + j]);
                    simd::unroll<V>([&](auto v) { x[r][v] = simd::fma(mij, x[j][v], x[r][v]); });
                }
            });
            const Batch<T> f(w.f[i0 + j]);
            simd::unroll<V>([&](auto v) {
                simd::store<T>(w.x + (i0 + j) * width + v * lanes, x[j][v]);
                simd::store<T>(w.fx + (i0 + j) * width + v * lanes, f * x[j][v]);
            });
        });
    }

    for (Index i0 = 0; i0 < rows; i0 += R) {
        LocalGrid<Batch<T>, R, V> o;
        simd::unroll<R>(
            [&](auto r) { simd::unroll<V>([&](auto v) { o[r][v] = Batch<T>(T(0)); }); });
        multiply_tile<T, R, V>(keys, w.q + i0 * padded, padded, s, o);  // Q S
        simd::unroll<R>([&](auto r) {
            const Batch<T> e(w.e[i0 + r]);
            simd::unroll<V>([&](auto v) { o[r][v] = e * o[r][v]; });
        });
        multiply_tile<T, R, V>(i0, w.a + i0 * Block, Block, w.x, o);
        simd::unroll<R>([&](auto j) {
            LocalArray<Batch<T>, V> xj;
            simd::unroll<V>(
                [&](auto v) { xj[v] = simd::load<T>(w.x + (i0 + j) * width + v * lanes); });
            simd::unroll<R>([&](auto r) {
                if constexpr (r >= j) {
                    const Batch<T> aij(w.a[(i0 + r) * Block + i0 + j]);
                    simd::unroll<V>([&](auto v) { o[r][v] = simd::fma(aij, xj[v], o[r][v]); });
                }
            });
        });
        simd::unroll<R>([&](auto r) {
            if (i0 + r < c) {
                T* row = out.row(i0 + r) + column;
                simd::unroll<V>([&](auto v) {
                    if constexpr (whole(v)) simd::store<T>(row + v * lanes, o[r][v]);
                    else simd::store_partial<T>(row + v * lanes, o[r][v], held(v));
                });
            }
        });
    }

    const Batch<T> gamma(w.e[Block - 1]);
    constexpr Index S = D != dynamic && D % R == 0 ? R : 4;  // rows of S in one tile
    for (Index d = 0; d < keys; d += S) {
        LocalGrid<Batch<T>, S, V> acc;
        simd::unroll<S>([&](auto r) {
            simd::unroll<V>([&](auto v) {
                const Batch<T> row = simd::load<T>(s + (d + r) * width + v * lanes);
                if constexpr (per_channel)
                    acc[r][v] = Batch<T>(w.alpha[(Block - 1) * padded + d + r]) * row;
                else acc[r][v] = gamma * row;
            });
        });
        for (Index i = 0; i < rows; ++i) {
            LocalArray<Batch<T>, V> xi;
            simd::unroll<V>([&](auto v) { xi[v] = simd::load<T>(w.fx + i * width + v * lanes); });
            simd::unroll<S>([&](auto r) {
                const Batch<T> ki(w.written()[i * padded + d + r]);
                simd::unroll<V>([&](auto v) { acc[r][v] = simd::fma(ki, xi[v], acc[r][v]); });
            });
        }
        simd::unroll<S>([&](auto r) {
            simd::unroll<V>(
                [&](auto v) { simd::store<T>(s + (d + r) * width + v * lanes, acc[r][v]); });
        });
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
