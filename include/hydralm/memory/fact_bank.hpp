// FactBank: an associative memory that learns by writing, without gradients.
//
//   S ← αS + β(v − αS k̂)k̂ᵀ   for every fact (k, v), k̂ = k / max(‖k‖₂, 1e−12)      recall(k) = S k̂
//
// This is the state of a Gated DeltaNet head with keys and values of your own. Facts are written in
// blocks of C: inside a block the recurrence is a triangular system, and S is met by two products
// of C rows (kernels/delta_rule/README.md, without queries). Agrees with writing one by one within
// 2e-5 (float) and 1e-12 (double) of the largest value. Source: Yang et al., arXiv 2406.06484.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/rms_norm/l2_normalize.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// T: float or double. KeyDim and ValueDim: any size from 1 on, not necessarily equal. A value: a
// copy is a bank of its own; a moved-from bank may be assigned to or destroyed. Its bytes are fixed
// by the type. A const bank may be read by many threads. Every function gives the same bits for any
// number of threads. Inputs should be finite: a NaN that is written stays until reset().
template <Real T, Index KeyDim, Index ValueDim = KeyDim>
class FactBank {
    static_assert(KeyDim >= 1 && ValueDim >= 1,
                  "hydralm: FactBank: KeyDim and ValueDim must be positive; a fact is a pair of "
                  "vectors");

    static constexpr Index lanes = simd::lanes<T>;
    // S is kept as Sᵀ in panels [panels, KeyDim, width], zeros behind ValueDim: columns (values) do
    // not see each other, and a panel stays in the second-level cache.
    static constexpr Index width = ValueDim > lanes ? 2 * lanes : lanes;
    static constexpr Index panels = ceil_div(ValueDim, width);
    static constexpr Index panel_size = KeyDim * width;
    static constexpr Index block = 64;  // C: facts written at once, measured
    static constexpr Index line = 64 / static_cast<Index>(sizeof(T));
    // Off the power of two, so that rows fall in different cache sets.
    static constexpr Index key_stride = round_up(KeyDim, line) + line;

public:
    using Scalar = T;
    static constexpr Index key_dim = KeyDim;
    static constexpr Index value_dim = ValueDim;
    // Bytes of S, of the scratch of write, and of both: what a bank holds for ever.
    static constexpr Index state_bytes = panels * panel_size * static_cast<Index>(sizeof(T));
    static constexpr Index workspace_bytes =
        (block * (key_stride + block) + panels * block * width) * static_cast<Index>(sizeof(T));
    static constexpr Index bytes = state_bytes + workspace_bytes;

    // A bank that knows nothing: S = 0. Allocates bytes, the last allocation there is.
    FactBank()
        : state_(panels * panel_size),
          keys_(block * key_stride),
          minus_m_(block * block),
          x_(panels * block * width) {
        (void)num_threads();  // the pool is made here, not in the first write
    }
    // A bank that goes on from S [ValueDim, KeyDim], row-major: what copy_to gave, or a head of
    // HydraLM::export_state. Throws Error for another size.
    explicit FactBank(std::span<const T> S) : FactBank() {
        expect_size(S.size());
        for (Index v = 0; v < ValueDim; ++v)
            for (Index k = 0; k < KeyDim; ++k)
                state_[at(k, v)] = S[static_cast<std::size_t>(v * KeyDim + k)];
    }
    // S, row-major [ValueDim, KeyDim]. Throws Error for another size.
    void copy_to(std::span<T> S) const {
        expect_size(S.size());
        for (Index v = 0; v < ValueDim; ++v)
            for (Index k = 0; k < KeyDim; ++k)
                S[static_cast<std::size_t>(v * KeyDim + k)] = state_[at(k, v)];
    }

    // Writes N facts in order; a key that is there already is overwritten, gradually for β < 1.
    //   keys    [N, KeyDim], any stride; any scale at which ‖key‖² is finite and ‖key‖ ≥ 1e-12
    //           (a key of zeros writes nothing)
    //   values  [N, ValueDim], any stride
    //   alpha   in [0, 1]: what is kept of all older facts, per fact; 0 forgets them
    //   beta    in (0, 1]: writing strength
    // How facts are divided among calls changes rounding only. No allocation. Throws Error for
    // another shape or gate, S unchanged. Cost: 4·KeyDim·ValueDim FLOP a fact for large N; one
    // fact alone is bound by reading and writing S.
    void write(MatrixView<const T> keys, MatrixView<const T> values, T alpha = T(1),
               T beta = T(1)) {
        expect_shape("keys", keys, keys.rows(), KeyDim);
        expect_shape("values", values, keys.rows(), ValueDim);
        expect_gate("alpha", alpha, alpha >= T(0), "a number in [0, 1]");
        expect_gate("beta", beta, beta > T(0), "a number in (0, 1]");
        for (Index first = 0; first < keys.rows(); first += block) {
            const Index c = std::min(block, keys.rows() - first);
            write_block(keys.middle_rows(first, c), values.middle_rows(first, c), alpha, beta);
        }
    }
    // One fact: key [KeyDim], value [ValueDim].
    void write(std::span<const T> key, std::span<const T> value, T alpha = T(1), T beta = T(1)) {
        write(as_row(key), as_row(value), alpha, beta);
    }

    // out [N, ValueDim] = S k̂ for keys [N, KeyDim], any strides. A row has the same bits whatever N
    // is. out must not overlap keys. No allocation. Throws Error for another shape. Cost:
    // 2·KeyDim·ValueDim FLOP a key.
    void recall(MatrixView<const T> keys, MatrixView<T> out) const {
        expect_shape("keys", keys, keys.rows(), KeyDim);
        expect_shape("out", out, keys.rows(), ValueDim);
        constexpr Index groups = ceil_div(panels, group);
        const Index N = keys.rows(), tasks = ceil_div(N, tile) * groups;
        parallel_for(
            tasks,
            [&](Index task) {
                const Index first = task / groups * tile, count = std::min(tile, N - first);
                recall_tile(keys.middle_rows(first, count), task % groups * group,
                            out.middle_rows(first, count));
            },
            static_cast<double>(2 * N * KeyDim * ValueDim) >= worthwhile);
    }
    // One key: key [KeyDim], out [ValueDim].
    void recall(std::span<const T> key, std::span<T> out) const {
        recall(as_row(key), MatrixView<T>(out.data(), 1, static_cast<Index>(out.size())));
    }

    // Forgets everything.
    void reset() noexcept { std::fill(state_.begin(), state_.end(), T(0)); }

private:
    static constexpr Index tile = 8;     // keys recalled, and unknowns eliminated, at once
    static constexpr Index group = 8;    // panels that share the packed keys of a tile
    static constexpr Index slice = 512;  // elements of a key packed at once
    static constexpr double worthwhile = 400'000;  // FLOP from which threads are woken

    static MatrixView<const T> as_row(std::span<const T> x) noexcept {
        return {x.data(), 1, static_cast<Index>(x.size())};
    }
    // Where S(v, k) is kept.
    static constexpr Index at(Index k, Index v) noexcept {
        return v / width * panel_size + k * width + v % width;
    }
    static T inverse_norm(const T* key) noexcept {
        const T norm = std::sqrt(sum(square(view<KeyDim>(key))));
        return T(1) / std::max(norm, static_cast<T>(kernels::l2_norm_floor));
    }

    // With k̂ the rows of K, E_i = α^(i+1), M_ij = β (k_i·k_j) α^(i−j) for j < i, F_i = α^(c−1−i):
    //   X = (I + M)⁻¹ β(V − E S K)      S ← α^c S + (F X)ᵀ K
    void write_block(MatrixView<const T> keys, MatrixView<const T> values, T alpha,
                     T beta) noexcept {
        const Index c = keys.rows();
        std::array<T, block + 1> power;  // α^n
        double product = 1;
        for (T& p : power) {
            p = static_cast<T>(product);
            product *= static_cast<double>(alpha);
        }
        for (Index i = 0; i < c; ++i) {
            T* k = keys_.data() + i * key_stride;
            out<KeyDim>(k) = in(keys.row(i)) * inverse_norm(keys.row(i));
            for (Index j = 0; j < i; ++j)
                minus_m_[i * block + j] = -beta * power[static_cast<std::size_t>(i - j)] *
                                          dot(view<KeyDim>(k), in(keys_.data() + j * key_stride));
        }
        parallel_for(
            panels, [&](Index p) { write_panel(p, values, power, beta); },
            4.0 * static_cast<double>(c * KeyDim * ValueDim) >= worthwhile);
    }

    void write_panel(Index p, MatrixView<const T> values, const std::array<T, block + 1>& power,
                     T beta) noexcept {
        using kernels::detail::product;
        const Index c = values.rows(), column = p * width;
        const Index columns = std::min(width, ValueDim - column);
        T* const s = state_.data() + p * panel_size;
        T* const x = x_.data() + p * block * width;  // [c, width]
        const auto alpha_to = [&](Index n) { return power[static_cast<std::size_t>(n)]; };

        product<T>(c, width, KeyDim, {keys_.data(), key_stride, 1}, s, width, x, width, false);
        for (Index i = 0; i < c; ++i) {
            T* const row = x + i * width;
            out(columns, row) = beta * (in(values.row(i) + column) - alpha_to(i + 1) * in(row));
        }
        for (Index i0 = 0; i0 < c; i0 += tile) {
            const Index rows = std::min(tile, c - i0);
            product<T>(rows, width, i0, {minus_m_.data() + i0 * block, block, 1}, x, width,
                       x + i0 * width, width, true);
            for (Index i = i0 + 1; i < i0 + rows; ++i)
                for (Index j = i0; j < i; ++j)
                    out<width>(x + i * width) =
                        fma(minus_m_[i * block + j], in(x + j * width), in(x + i * width));
        }
        if (c == 1) {  // one pass over S
            for (Index k = 0; k < KeyDim; ++k)
                out<width>(s + k * width) = fma(keys_[k], in(x), alpha_to(1) * in(s + k * width));
            return;
        }
        if (alpha_to(1) != T(1)) {
            for (Index i = 0; i < c; ++i) out<width>(x + i * width) *= alpha_to(c - 1 - i);
            out<panel_size>(s) *= alpha_to(c);
        }
        product<T>(KeyDim, width, c, {keys_.data(), 1, key_stride}, x, width, s, width, true);
    }

    // Up to tile keys against panels [first, first + group).
    void recall_tile(MatrixView<const T> keys, Index first, MatrixView<T> out) const noexcept {
        constexpr Index stride = slice + line, sums_stride = group * width;
        alignas(alignment) LocalArray<T, tile * stride> packed;
        alignas(alignment) LocalArray<T, tile * sums_stride> sums;  // [keys, group, width]
        const Index count = std::min(group, panels - first), rows = keys.rows();
        std::array<T, tile> scale;
        for (Index i = 0; i < rows; ++i)
            scale[static_cast<std::size_t>(i)] = inverse_norm(keys.row(i));
        for (Index begin = 0; begin < KeyDim; begin += slice) {
            const Index depth = std::min(slice, KeyDim - begin);
            for (Index i = 0; i < rows; ++i)
                hydralm::out(depth, packed + i * stride) =
                    in(keys.row(i) + begin) * scale[static_cast<std::size_t>(i)];
            for (Index p = 0; p < count; ++p)
                kernels::detail::product<T>(
                    rows, width, depth, {packed, stride, 1},
                    state_.data() + (first + p) * panel_size + begin * width, width,
                    sums + p * width, sums_stride, begin > 0);
        }
        const Index column = first * width;
        const Index columns = std::min(count * width, ValueDim - column);
        for (Index i = 0; i < rows; ++i)
            std::copy_n(sums + i * sums_stride, columns, out.row(i) + column);
    }

    static void expect_gate(const char* field, T gate, bool above, const char* range) {
        if (!(above && gate <= T(1)))
            raise({.field = field,
                   .expected = range,
                   .found = std::to_string(gate),
                   .fix = "1 keeps or writes everything"});
    }
    static void expect_shape(const char* field, MatrixView<const T> x, Index rows, Index cols) {
        const auto shape = [](Index n, Index m) {
            return "[" + std::to_string(n) + ", " + std::to_string(m) + "]";
        };
        if (x.rows() != rows || x.cols() != cols)
            raise({.field = field,
                   .expected = shape(rows, cols),
                   .found = shape(x.rows(), x.cols()),
                   .fix = "give a row of KeyDim and a row of ValueDim for each fact"});
    }
    static void expect_size(std::size_t size) {
        if (size != static_cast<std::size_t>(KeyDim * ValueDim))
            raise(
                {.field = "S",
                 .expected = std::to_string(ValueDim) + " x " + std::to_string(KeyDim) + " values",
                 .found = std::to_string(size),
                 .fix = "give one head's matrix, a row for each element of a value"});
    }

    AlignedBuffer<T> state_;    // [panels, KeyDim, width]
    AlignedBuffer<T> keys_;     // [block, key_stride], scratch of write
    AlignedBuffer<T> minus_m_;  // [block, block]: −M_ij for j < i
    AlignedBuffer<T> x_;        // [panels, block, width]
};

}  // namespace HYDRALM_NAMESPACE
