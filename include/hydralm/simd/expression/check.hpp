// Sizes and overlap of an expression's views, compared with the output's when a user assigns.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "hydralm/core/error.hpp"
#include "hydralm/simd/expression/operation.hpp"

namespace HYDRALM_NAMESPACE::detail {

// What a view has a size of: of a row it is read in every row of the output, of a column in every
// column.
enum class Shape : std::uint8_t { matrix, row, column };

// Where elements lie: lines of width bytes each, stride bytes apart.
struct Region {
    Shape shape;
    std::uintptr_t begin;
    Index rows, cols, lines, width, stride;

    // From the first byte to behind the last; a stride may be negative.
    [[gnu::always_inline]] std::uintptr_t low() const noexcept {
        return begin + static_cast<std::uintptr_t>(std::min<Index>(last_line(), 0));
    }
    [[gnu::always_inline]] std::uintptr_t end() const noexcept {
        return begin + static_cast<std::uintptr_t>(std::max<Index>(last_line(), 0) +
                                                   (lines == 0 ? 0 : width));
    }

private:
    [[gnu::always_inline]] Index last_line() const noexcept {
        return (lines - Index(lines != 0)) * stride;
    }
};

template <class T>
[[gnu::always_inline]] inline std::uintptr_t address(T* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p);
}
template <class T, Index Extent>
[[gnu::always_inline]] inline Region region(const RowView<T, Extent>& x) noexcept {
    constexpr Index size = sizeof(T);
    return {Shape::row, address(x.data()), 1, x.size(), 1, x.size() * size, 0};
}
template <class T, Index Cols>
[[gnu::always_inline]] inline Region region(const MatrixView<T, Cols>& x) noexcept {
    constexpr Index size = sizeof(T);
    return {Shape::matrix, address(x.data()), x.rows(),         x.cols(),
            x.rows(),      x.cols() * size,   x.stride() * size};
}
template <class T>
[[gnu::always_inline]] inline Region region(const StridedSpan<T>& x) noexcept {
    constexpr Index size = sizeof(T);
    return {Shape::row, address(x.data()), 1, x.size(), x.size(), size, x.stride() * size};
}
template <class T>
[[gnu::always_inline]] inline Region region(const ColumnOperand<T>& x) noexcept {
    Region r = region(x.view);
    r.shape = Shape::column;
    std::swap(r.rows, r.cols);
    return r;
}

// Whether in has out's shape, as far as it has one.
[[gnu::always_inline]] inline bool has_shape_of(const Region& out, const Region& in) noexcept {
    return ((in.shape == Shape::row) | (in.rows == out.rows)) &
           ((in.shape == Shape::column) | (in.cols == out.cols));
}
[[gnu::always_inline]] inline bool apart(const Region& out, const Region& in) noexcept {
    const bool before = in.end() <= out.low(), behind = out.end() <= in.low();
    return before | behind;
}
[[gnu::always_inline]] inline bool at_one_place(const Region& out, const Region& in) noexcept {
    return (out.begin == in.begin) & (out.lines == in.lines) &
           ((out.lines <= 1) | (out.stride == in.stride));
}

// Whether an element of the output may lie where another element's operand does. Elements at equal
// places may share; so may columns of one matrix that lie beside each other.
inline bool disturbs(const Region& out, const Region& in) noexcept {
    if (apart(out, in) || at_one_place(out, in)) return false;
    if (out.lines <= 1 || out.stride <= 0 || (in.lines > 1 && in.stride != out.stride)) return true;
    const Index stride = out.stride;
    const auto distance = static_cast<Index>(in.begin - out.begin);  // of either sign
    const Index beside = (distance % stride + stride) % stride;
    return beside < out.width || beside + in.width > stride;
}

// Whether in is seen at once to be as it should: most are the output itself or lie apart.
[[gnu::always_inline]] inline bool plainly_fits(const Region& out, const Region& in) noexcept {
    const bool shaped = has_shape_of(out, in), aside = apart(out, in), same = at_one_place(out, in);
    return shaped & (aside | same);
}

// By +=: g++ 12 warns of its own operator+(const char*, std::string&&) where it is inlined.
inline std::string shape_text(const Region& x) {
    std::string text = "[";
    text += std::to_string(x.shape == Shape::row ? x.cols : x.rows);
    if (x.shape == Shape::matrix) text.append(", ").append(std::to_string(x.cols));
    text += x.shape == Shape::column ? "] for its rows" : "]";
    return text;
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_sizes(const Region& out,
                                                               const Region& in) {
    raise({.field = "out",
           .expected = "operands of the output's shape, " + shape_text(out),
           .found = "an operand of " + shape_text(in),
           .fix = "cut the views to one shape; a row [n] also meets every row of [N, n]"});
}
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_overlap(const Region& out,
                                                                 const Region& in) {
    raise({.field = "out",
           .expected = "operands that are the output itself or lie apart from it",
           .found = "an operand of " + shape_text(in) + " over other elements of the output, " +
                    shape_text(out),
           .fix = "write to another buffer and copy"});
}

// Throws unless in has out's shape, as far as it has one, and leaves out's other elements alone.
inline void check_region(const Region& out, const Region& in) {
    if (!has_shape_of(out, in)) throw_sizes(out, in);
    if (disturbs(out, in)) throw_overlap(out, in);
}

[[gnu::cold, gnu::noinline]] inline void check_regions(std::span<const Region> outputs,
                                                       std::span<const Region> views) {
    for (const Region& out : outputs)
        for (const Region& in : views) check_region(out, in);
}

// f(region) of every view in x.
template <class F, class... X>
[[gnu::always_inline]] inline void each_region(const F& f, const X&... x) {
    (x.each_view([&](const auto& view) __attribute__((always_inline)) { f(region(view)); }), ...);
}
template <class... X>
[[gnu::always_inline]] inline auto regions(const X&... x) noexcept {
    std::array<Region, static_cast<std::size_t>((X::views + ...))> found;
    std::size_t n = 0;
    each_region([&](const Region& r) __attribute__((always_inline)) { found[n++] = r; }, x...);
    return found;
}

// Throws Error where a view among outputs and e has another shape than an output, or lies over
// other elements of it. No branches where all is well, and no address of a tree is taken: what
// occurs twice is compared once, and trees stay in registers.
template <class... Y, class... E>
[[gnu::always_inline]] inline void check_views(const std::tuple<Y...>& outputs, const E&... e) {
    spread(
        [&](const Y&... y) __attribute__((always_inline)) {
            bool fit = true;
            each_region(
                [&](const Region& out) __attribute__((always_inline)) {
                    each_region(
                        [&](const Region& in)
                            __attribute__((always_inline)) { fit = fit & plainly_fits(out, in); },
                        y..., e...);
                },
                y...);
            if (!fit) [[unlikely]]
                check_regions(regions(y...), regions(y..., e...));
        },
        outputs);
}

}  // namespace HYDRALM_NAMESPACE::detail
