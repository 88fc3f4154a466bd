// HeadPadding: heads of D numbers, computed by kernels for wider ones.
//
// The halves of a head lie at the front of the halves of the wider one, zeros behind each: rotary
// pairs stay pairs, and a zero adds nothing to a norm, a product, a state or an output. What
// depends on the width itself, angles and scale, the mixers' shapes say (kernels::rotary_table). So
// weights and states are wider in memory than in files; this leads from one to the other.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

class HeadPadding {
public:
    // None.
    HeadPadding() = default;
    // narrow: D. wide: that of the kernels, at least as much. Both multiples of 4.
    HeadPadding(Index narrow, Index wide) noexcept : narrow_(narrow), wide_(wide) {}
    bool pads() const noexcept { return narrow_ != wide_; }

    // The description of a tensor in files, of one in memory; and the other way round.
    ParameterInfo in_file(const ParameterInfo& info) const noexcept {
        return resized(info, wide_, narrow_);
    }
    ParameterInfo in_memory(const ParameterInfo& info) const noexcept {
        return resized(info, narrow_, wide_);
    }

    // to, in memory = from, as files have it. info: in_file's.
    template <Real T>
    void widen(const ParameterInfo& info, const T* from, T* to) const noexcept {
        std::fill_n(to, in_memory(info).size(), T(0));
        each_run(info, [&](Index file, Index memory, Index count) {
            std::copy_n(from + file, count, to + memory);
        });
    }
    // f(place in files, place in memory, how many) for every run of numbers of a tensor. info:
    // in_file's.
    template <class F>
    void each_run(const ParameterInfo& info, const F& f) const noexcept {
        const Heads heads = heads_of(info);
        if (heads.count == 0) f(Index{0}, Index{0}, info.size());
        else
            for_each(heads,
                     [&](Index in_file, Index in_memory) { f(in_file, in_memory, heads.inner); });
    }

    // sink(shape, values) of an array of a state (export_state) without padding. Allocates.
    template <Real T, class Sink>
    void narrow_state(std::string_view name, std::span<const Index> shape,
                      const std::vector<T>& values, const Sink& sink) const {
        std::vector<Index> narrowed(shape.begin(), shape.end());
        std::vector<T> all = values;
        const bool inputs = name == "conv_cache";  // [channels, K − 1]
        if (inputs || name == "S") narrow_axis(narrowed, narrowed.size() - 2, all);
        if (!inputs) narrow_axis(narrowed, narrowed.size() - 1, all);
        if (name == "k_cache") {  // turned by a table that has the scale
            const T scale = static_cast<T>(
                std::pow(static_cast<double>(narrow_) / static_cast<double>(wide_), 0.25));
            for (T& value : all) value *= scale;
        }
        sink(std::span<const Index>(narrowed), all);
    }

private:
    // Heads one behind the other, inner numbers for each of a head's; none: numbers as they are.
    struct Heads {
        Index count = 0;
        Index inner = 1;
    };
    enum class Axis : std::uint8_t { none, rows, cols };

    static Axis axis_of(const ParameterInfo& info) noexcept {
        if (info.name().find(".mixer.") == std::string_view::npos) return Axis::none;
        switch (info.law.role) {
            case ParameterRole::projection:
            case ParameterRole::output_gate:
            case ParameterRole::convolution: return Axis::rows;
            case ParameterRole::residual_projection: return Axis::cols;
            case ParameterRole::router: return info.rank == 2 ? Axis::cols : Axis::none;
            default: return Axis::none;
        }
    }
    ParameterInfo resized(ParameterInfo info, Index from, Index to) const noexcept {
        const Axis axis = axis_of(info);
        if (axis == Axis::none || !pads()) return info;
        Index& extent =
            info.extents[axis == Axis::rows ? 0 : static_cast<std::size_t>(info.rank) - 1];
        extent = extent / from * to;
        if (axis == Axis::rows)
            for (Index& rows : info.parts.rows) rows = rows / from * to;
        return info;
    }
    Heads heads_of(const ParameterInfo& info) const noexcept {
        const Axis axis = axis_of(info);
        if (axis == Axis::none || !pads()) return {};
        if (axis == Axis::rows) return {.count = info.rows() / narrow_, .inner = info.cols()};
        return {.count = info.size() / narrow_, .inner = 1};
    }
    // f(place in files, place in memory) of the inner numbers for every number of every head.
    template <class F>
    void for_each(const Heads& heads, const F& f) const noexcept {
        for (Index h = 0; h < heads.count; ++h)
            for (Index j = 0; j < narrow_; ++j) {
                const Index place = j < narrow_ / 2 ? j : j - narrow_ / 2 + wide_ / 2;
                f((h * narrow_ + j) * heads.inner, (h * wide_ + place) * heads.inner);
            }
    }
    // In place, front to back: no number moves backwards.
    template <Real T>
    void narrow_axis(std::vector<Index>& shape, std::size_t axis, std::vector<T>& values) const {
        Heads heads{.count = shape[axis] / wide_, .inner = 1};
        for (std::size_t i = 0; i < axis; ++i) heads.count *= shape[i];
        for (std::size_t i = axis + 1; i < shape.size(); ++i) heads.inner *= shape[i];
        for_each(heads, [&](Index to, Index from) {
            std::copy_n(values.data() + from, heads.inner, values.data() + to);
        });
        shape[axis] = shape[axis] / wide_ * narrow_;
        values.resize(static_cast<std::size_t>(heads.count * narrow_ * heads.inner));
    }

    Index narrow_ = 4, wide_ = 4;
};

}  // namespace HYDRALM_NAMESPACE
