// The values of four bits, and the search for a scale with which weights are nearest to them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "hydralm/simd/unroll.hpp"
#include "hydralm/weights/block_group.hpp"

namespace HYDRALM_NAMESPACE::weights::detail {

// The values of 4 bits, GGUF's IQ4_NL.
inline constexpr std::array<int, 16> table{-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr simd::Sixteen table_values = [] {
    simd::Sixteen values{};
    std::copy(table.begin(), table.end(), values.entries.begin());
    return values;
}();

// From where on an entry of the table is the nearest one: the middle between it and the one before.
constexpr float first_of_entry(std::size_t entry) noexcept {
    return 0.5F * static_cast<float>(table[entry - 1] + table[entry]);
}
inline constexpr simd::Ascending table_bounds([] {
    std::array<float, 15> bounds{};
    for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = first_of_entry(i + 1);
    return bounds;
}());
// The index of the entry nearest to x.
[[gnu::always_inline]] inline simd::Words nearest_entry(const Lanes& x) noexcept {
    return table_bounds.count_up_to(x);
}

// From an entry to its neighbour away from 0, at the index of the lower of the two; at the last
// index from either end, where there is none.
struct Outwards {
    simd::Sixteen bound{};  // the neighbour is nearest from this magnitude on
    simd::Sixteen width{};  // neighbour − entry
};
inline constexpr Outwards outwards = [] {
    Outwards steps;
    for (std::size_t i = 0; i < 15; ++i) {
        const float middle = first_of_entry(i + 1);
        const auto width = static_cast<float>(table[i + 1] - table[i]);
        // the upper entry has the middle itself, the lower one what is beyond
        const float beyond = std::bit_cast<float>(std::bit_cast<std::int32_t>(-middle) + 1);
        steps.bound.entries[i] = middle > 0 ? middle : beyond;
        steps.width.entries[i] = middle > 0 ? width : -width;
    }
    steps.bound.entries[15] = std::numeric_limits<float>::infinity();
    return steps;
}();

// With the factor c, a weight w is kept as the entry v nearest to c·w. The best scale for these
// entries is Σ w·v / Σ v², and the squared error then Σ w² − (Σ w·v)² / Σ v². Weights are divided
// by their extreme, so that squares neither vanish nor overflow.
class TableSearch {
public:
    // most: the extremes. Of blocks where wanted is not 0; there it is neither 0 nor NaN.
    TableSearch(const BlockGroup& w, const Lanes& most, const Lanes& wanted) noexcept
        : count_(w.count()), wanted_(wanted) {
        const Lanes divisor = simd::select(simd::abs<float>(most) > simd::broadcast(0.0F), most,
                                           simd::broadcast(1.0F));
        for (Index i = 0; i < count_; ++i)
            w_[static_cast<std::size_t>(i)] = simd::divide<float>(w[i], divisor);
    }

    // The largest weight is put at and around either end of the table, in 2 × 17 steps of 1.5; the
    // best of them is fitted twice more.
    OfGroup<float> scales() noexcept {
        estimate<steps - 1, -1>();
        estimate<steps, 1>();
        const Lanes least = least_gain();
        for (Lanes last = simd::broadcast(-1.0F), c = last; next_factor(least, last, c);)
            consider(c);
        for (int again = 0; again < 2; ++again) {
            OfGroup<float> c = best_scales();
            for (float& scale : c.values) scale = inverse(scale);
            if (!consider(load(c))) break;
        }
        return best_scales();
    }

private:
    using Halves = std::array<simd::Doubles, 2>;  // of the group
    static constexpr int steps = 17, factors = 2 * steps, half = steps / 2;

    static constexpr float factor(int i) noexcept {
        const int end = i < steps ? table.front() : table.back();
        return static_cast<float>(end) + 1.5F * static_cast<float>(i % steps - half);
    }

    // The gains of the factors of one end, First the one nearest to 0.
    template <int First, int Step>
    void estimate() noexcept {
        OfBlock<simd::Words> entries;
        for (Index i = 0; i < count_; ++i)
            entries[static_cast<std::size_t>(i)] =
                nearest_entry(weight(i) * simd::broadcast(factor(First)));
        estimate_half<First, Step>(entries);
        estimate_half<First + half * Step, Step>(entries);
    }

    // gains = (Σ w·v)² / Σ v², in float, of First and the `half` factors behind it; entries: those
    // of the first, then those of the last. They are the same, or neighbours away from 0: c·w
    // grows by an eighth at most, middles of entries by a fifth at least. Magnitudes grow with the
    // factor, so where Σ v² is that of the factor before, all entries are: the gain becomes −1.
    template <int First, int Step>
    void estimate_half(OfBlock<simd::Words>& entries) noexcept {
        constexpr std::uint32_t below_0 = factor(First) < 0 ? 1 : 0;
        constexpr auto n = static_cast<std::size_t>(half);
        constexpr int nearest_to_0 = Step < 0 ? steps - 1 : steps;
        Lanes product = simd::broadcast(0.0F), square = product;
        std::array<Lanes, n> products, squares;  // what neighbours add
        products.fill(product);
        squares.fill(product);
        for (Index i = 0; i < count_; ++i) {
            const Lanes w = weight(i), size = simd::abs<float>(w);
            simd::Words& entry = entries[static_cast<std::size_t>(i)];
            const simd::Words down = (simd::bits_of(w) >> 31) ^ below_0, lower = entry - down;
            const Lanes v = simd::lookup(table_values, entry),
                        bound = simd::lookup(outwards.bound, lower),
                        width = simd::lookup(outwards.width, lower);
            product = simd::fma<float>(w, v, product);
            square = simd::fma<float>(v, v, square);
            const Lanes more = w * width, more_squared = width * (v + v + width);
            simd::unroll<half>([&](auto k) __attribute__((always_inline)) {
                constexpr float c = factor(First + (static_cast<int>(k()) + 1) * Step);
                const auto beyond = size * simd::broadcast(c < 0 ? -c : c) >= bound;
                products[k()] = simd::add_where(beyond, products[k()], more);
                squares[k()] = simd::add_where(beyond, squares[k()], more_squared);
                if constexpr (k() == half - 1)
                    entry = simd::add_where(beyond, entry, 1U - 2U * down);
            });
        }
        if constexpr (First == nearest_to_0)
            gain(First) = product * product / square;  // else the last of the half before
        Lanes before = simd::broadcast(0.0F);
        for (std::size_t k = 0; k < n; ++k) {
            const Lanes p = product + products[k], s = square + squares[k];
            gain(First + (static_cast<int>(k) + 1) * Step) =
                simd::select(squares[k] == before, simd::broadcast(-1.0F), Lanes(p * p / s));
            before = squares[k];
        }
    }

    // Factors whose gain is smaller are not the best. Σ v² is exact. Σ w·v is a sum of 32 products
    // of entries no larger than v, and of 32 of widths at most 1.1 times as large, with a rounding
    // by 2⁻²⁴ for each, for each width's product and for the sum of both. So it is wrong by less
    // than 70 · 2⁻²⁴ Σ |w·v|, and Σ |w·v| ≤ (Σ w² Σ v²)^½: a gain by less than 2⁻¹⁶·⁸ Σ w², the
    // difference of two by twice that.
    Lanes least_gain() const noexcept {
        Lanes most = gains_[0], squares = simd::broadcast(0.0F);
        for (const Lanes& gain : gains_) most = simd::max<float>(gain, most);
        for (Index i = 0; i < count_; ++i)
            squares = simd::fma<float>(weight(i), weight(i), squares);
        return simd::select(wanted_ == simd::broadcast(0.0F),
                            simd::broadcast(std::numeric_limits<float>::infinity()),
                            Lanes(most - squares * simd::broadcast(0x1p-15F)));
    }
    // Behind the factor number `last` of every block the next one whose gain is not smaller: last
    // becomes its number, c itself; any factor where there is none. Whether there is one for a
    // block.
    bool next_factor(const Lanes& least, Lanes& last, Lanes& c) noexcept {
        const Lanes end = simd::broadcast(static_cast<float>(factors));
        Lanes next = end;
        c = simd::broadcast(factor(0));
        for (int i = factors; i-- > 0;) {
            const Lanes number = simd::broadcast(static_cast<float>(i));
            const auto may = (gain(i) >= least) & (number > last);
            next = simd::select(may, number, next);
            c = simd::select(may, simd::broadcast(factor(i)), c);
        }
        last = next;
        return simd::reduce_max<float>(end - next) > 0;
    }

    // Whether c is better than the best of any block, which it becomes there: in double, of exact
    // products, the same fused or not.
    bool consider(const Lanes& c) noexcept {
        Halves products{};
        Lanes square = simd::broadcast(0.0F);
        for (Index i = 0; i < count_; ++i) {
            const Lanes w = weight(i), v = simd::lookup(table_values, nearest_entry(w * c));
            const auto wide_w = simd::widened(w), wide_v = simd::widened(v);
            for (std::size_t h = 0; h < 2; ++h) products[h] += wide_w[h] * wide_v[h];
            square = simd::fma<float>(v, v, square);
        }
        const auto squares = simd::widened(square);
        bool any = false;
        for (std::size_t h = 0; h < 2; ++h) {
            const simd::Doubles scale = products[h] / squares[h], gain = products[h] * scale;
            const auto better = gain > best_gain_[h];
            best_scale_[h] = better ? scale : best_scale_[h];
            best_gain_[h] = better ? gain : best_gain_[h];
            for (Index b = 0; b < group_size / 2; ++b) any |= better[b] != 0;
        }
        return any;
    }

    OfGroup<float> best_scales() const noexcept {
        const auto exact = std::bit_cast<std::array<double, group_size>>(best_scale_);
        OfGroup<float> scales;
        std::transform(exact.begin(), exact.end(), scales.values.begin(),
                       [](double scale) { return static_cast<float>(scale); });
        return scales;
    }

    Lanes& gain(int i) noexcept { return gains_[static_cast<std::size_t>(i)]; }
    Lanes weight(Index i) const noexcept { return w_[static_cast<std::size_t>(i)]; }

    Index count_;
    Lanes wanted_;
    OfBlock<Lanes> w_;  // [count, group_size]
    std::array<Lanes, static_cast<std::size_t>(factors)> gains_;
    Halves best_scale_{}, best_gain_{simd::Doubles{} - 1.0, simd::Doubles{} - 1.0};
};

}  // namespace HYDRALM_NAMESPACE::weights::detail
