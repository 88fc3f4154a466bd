// Sizes and overlap of an expression's views, compared with the output's when a user assigns.
#pragma once

#include <cstdint>
#include <string>

#include "hydralm/core/error.hpp"
#include "hydralm/simd/expression/operand.hpp"

namespace HYDRALM_NAMESPACE::detail {

// Where elements lie: rows of width bytes each, stride bytes apart. rows, cols: −1 where the view
// has none of its own and is read in all of the output's.
struct Region {
    std::uintptr_t begin;
    Index rows, cols, lines, width, stride;

    std::uintptr_t end() const noexcept {
        return lines == 0 || width == 0
                   ? begin
                   : begin + static_cast<std::uintptr_t>((lines - 1) * stride + width);
    }
};

template <class T>
std::uintptr_t address(T* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p);
}
template <class T, Index Extent>
Region region(const RowView<T, Extent>& x) noexcept {
    constexpr Index size = sizeof(T);
    return {address(x.data()), -1, x.size(), 1, x.size() * size, 0};
}
template <class T, Index Cols>
Region region(const MatrixView<T, Cols>& x) noexcept {
    constexpr Index size = sizeof(T);
    return {address(x.data()), x.rows(), x.cols(), x.rows(), x.cols() * size, x.stride() * size};
}
template <class T>
Region region(const StridedSpan<T>& x) noexcept {
    constexpr Index size = sizeof(T);
    return {address(x.data()), -1, x.size(), x.size(), size, x.stride() * size};
}
template <class T>
Region region(const ColumnOperand<T>& x) noexcept {
    Region r = region(x.view);
    r.rows = x.view.size();
    r.cols = -1;
    return r;
}

// Whether an element of the output may lie where another element's operand does. Elements at equal
// places may share; so may columns of one matrix that lie beside each other.
inline bool disturbs(const Region& out, const Region& in) noexcept {
    if (in.end() <= out.begin || out.end() <= in.begin) return false;
    const bool one_line = out.lines <= 1 && in.lines <= 1;
    const bool alike = out.lines == in.lines && (one_line || out.stride == in.stride);
    if (alike && out.begin == in.begin) return false;
    if (out.lines <= 1 || out.stride <= 0 || (in.lines > 1 && in.stride != out.stride)) return true;
    const Index stride = out.stride;
    const auto distance = static_cast<Index>(in.begin - out.begin);  // of either sign
    const Index beside = (distance % stride + stride) % stride;
    return beside < out.width || beside + in.width > stride;
}

// By +=: g++ 12 warns of its own operator+(const char*, std::string&&) where it is inlined.
inline std::string shape_text(Index rows, Index cols) {
    std::string text = "[";
    text += std::to_string(rows < 0 ? cols : rows);
    if (rows >= 0 && cols >= 0) text.append(", ").append(std::to_string(cols));
    text += cols < 0 ? "] for its rows" : "]";
    return text;
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_sizes(const Region& out,
                                                               const Region& in) {
    raise({.field = "out",
           .expected = "operands of the output's shape, " + shape_text(out.rows, out.cols),
           .found = "an operand of " + shape_text(in.rows, in.cols),
           .fix = "cut the views to one shape; a row [n] also meets every row of [N, n]"});
}
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_overlap(const Region& out,
                                                                 const Region& in) {
    raise({.field = "out",
           .expected = "operands that are the output itself or lie apart from it",
           .found = "an operand of " + shape_text(in.rows, in.cols) +
                    " over other elements of the output, " + shape_text(out.rows, out.cols),
           .fix = "write to another buffer and copy"});
}

// Throws unless in has out's shape, as far as it has one.
inline void check_sizes(const Region& out, const Region& in) {
    if ((in.rows >= 0 && in.rows != out.rows) || (in.cols >= 0 && in.cols != out.cols))
        throw_sizes(out, in);
}
inline void check_region(const Region& out, const Region& in) {
    check_sizes(out, in);
    if (disturbs(out, in)) throw_overlap(out, in);
}

}  // namespace HYDRALM_NAMESPACE::detail
