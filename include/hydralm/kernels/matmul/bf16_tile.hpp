// The register tile of a product with bf16 weights.
//
// x is rounded to bf16. Per group of 32 inputs, padded with zeros, two chains of simd::fma from +0
// over the even and the odd ones, i = 0 … 15:
//   even ← fma(x[2i], w[2i], even),  odd ← fma(x[2i + 1], w[2i + 1], odd);   sum ← sum + (even +
//   odd)
// which is what a tile instruction for bf16 does (tdpbf16ps). A product of two bf16 is exact in
// float, but for overflow and subnormals, so multiply and add in two steps have the same bits: a
// result depends neither on the instruction set nor on the tile it falls in.
#pragma once

#include "hydralm/kernels/matmul/tile.hpp"
#include "hydralm/simd/unroll.hpp"
#include "hydralm/weights/bf16_matrix.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

template <>
struct Tiles<weights::Bf16Matrix::Panel> {
    using Panel = weights::Bf16Matrix::Panel;
    using B = Block<float>;
    static constexpr Index group = weights::Bf16Matrix::group;
    static_assert(B::panel_rows == weights::Bf16Matrix::panel_rows && B::depth % group == 0);

    static constexpr bool many_registers = simd::registers >= 32;
    static constexpr int most_rows = B::tile_rows;
    template <int Rows>
    static constexpr int panels = Rows == 1                     ? (many_registers ? 4 : 2)
                                  : many_registers && Rows <= 3 ? 2
                                                                : 1;
    // Vectors of outputs that go through a group together. Every sum takes two registers of them:
    // many rows take one vector at a time.
    template <int Rows>
    static constexpr int vectors = Rows <= (many_registers ? 4 : 2) ? 2 * panels<Rows> : 1;

    // Rounded, and padded with zeros to whole groups.
    static void copy_row(const float* x, Index count, float* to) noexcept {
        constexpr Index lanes = simd::lanes<float>;
        Index i = 0;
        for (; i + lanes <= count; i += lanes)
            simd::store(to + i, simd::round_to_bf16(simd::load(x + i)));
        if (i < count)
            simd::store(to + i, simd::round_to_bf16(simd::load_partial(x + i, count - i)));
        for (i = round_up(count, lanes); i < round_up(count, group); i += lanes)
            simd::store(to + i, simd::broadcast(0.0F));
    }

    // sums[p][r][:] (+)= as above over the groups of [first, first + count); from zero when fresh.
    template <int Rows>
    [[gnu::noinline]] static void run(const float* x, const Panel* p, Index first, Index count,
                                      float* sums, bool fresh, Ahead ahead) noexcept {
        std::array<Panel, panels<Rows>> local;
        std::copy_n(p, panels<Rows>, local.begin());
        if (fresh) clear<Rows>(sums);
        for (Index k = 0; k < count; k += group)
            simd::unroll<2 * panels<Rows> / vectors<Rows>>(
                [&](auto part) __attribute__((always_inline)) {
                    add_group<Rows, part * vectors<Rows>>(x + k, local, first + k, sums, ahead);
                });
    }

private:
    // The sums of one group of inputs from column on, vectors of outputs from First on.
    template <int Rows, Index First>
    [[gnu::always_inline]] static void add_group(const float* x,
                                                 const std::array<Panel, panels<Rows>>& p,
                                                 Index column, float* sums, Ahead& ahead) noexcept {
        constexpr Index width = vectors<Rows>;
        std::array<simd::Batch<float>, static_cast<std::size_t>(Rows * width)> even, odd;
        even.fill(simd::broadcast(0.0F));
        odd.fill(simd::broadcast(0.0F));
        for (Index i = 0; i < group; i += 2) {
            if constexpr (First == 0) fetch(p, column + i, ahead);
            simd::unroll<width>([&](auto w) __attribute__((always_inline)) {
                const auto pairs = p[(First + w) / 2].load(column + i, (First + w) % 2);
                simd::unroll<Rows>([&](auto r) __attribute__((always_inline)) {
                    const float* value = x + r * B::x_stride + i;
                    auto& e = even[r * width + w];
                    auto& o = odd[r * width + w];
                    e = simd::fma<float>(simd::broadcast(value[0]), pairs.even, e);
                    o = simd::fma<float>(simd::broadcast(value[1]), pairs.odd, o);
                });
            });
        }
        simd::unroll<Rows * width>([&](auto i) __attribute__((always_inline)) {
            constexpr Index r = i / width, w = First + i % width;
            float* sum = sums + r * B::sums_stride + w * simd::lanes<float>;
            simd::store<float>(sum, simd::load<float>(sum) + (even[i] + odd[i]));
        });
    }
    // Asks for two columns: of these panels, 2 KiB before they are needed, where they are several
    // and wait for memory; else of what the caller says.
    template <std::size_t Panels>
    static void fetch(const std::array<Panel, Panels>& p, Index column, Ahead& ahead) noexcept {
        constexpr Index bytes = 2 * Panel::column_bytes;
        const auto ask = [](const void* address, Index behind) {
            for (Index line = 0; line < bytes; line += 64)
                __builtin_prefetch(static_cast<const char*>(address) + behind + line, 0, 2);
        };
        if constexpr (Panels > 1) {
            for (const Panel& panel : p) ask(panel.address(column), 2048);
        } else {
            ask(ahead.address, 0);
            ahead.address = static_cast<const char*>(ahead.address) + 2 * ahead.step;
        }
    }
    template <int Rows>
    static void clear(float* sums) noexcept {
        for (Index r = 0; r < Rows; ++r)
            std::fill_n(sums + r * B::sums_stride, panels<Rows> * B::panel_rows, 0.0F);
    }
};

}  // namespace HYDRALM_NAMESPACE::kernels::detail
