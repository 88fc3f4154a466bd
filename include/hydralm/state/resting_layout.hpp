// RestingLayout: how the fixed arrays of a stream lie between calls when some of them rest in
// int16.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/int16_rows.hpp"

namespace HYDRALM_NAMESPACE {

// An array [rows, cols] that may rest in int16 with a scale per row.
struct RestingArray {
    Index offset = 0;  // of its bytes in the stream's
    Index rows = 0, cols = 0;
    bool wide = false;  // of double, else of float
    bool operator==(const RestingArray&) const = default;
};

// The bytes of a stream as modules see them (awake), and the same with these arrays as numbers q
// [rows, cols] and scales [rows] (at rest), each at a multiple of hydralm::alignment. All else is
// the same in both, and zeros are zeros.
class RestingLayout {
public:
    // awake_bytes: of all arrays, in order of offset.
    RestingLayout(Index awake_bytes, std::vector<RestingArray> arrays)
        : awake_bytes_(awake_bytes), arrays_(std::move(arrays)) {
        each([&](const auto&, auto, Index, Index, Index end) { bytes_ = end; },
             [&](Index, Index at, Index size) { bytes_ = at + size; });
    }
    Index awake_bytes() const noexcept { return awake_bytes_; }
    Index bytes() const noexcept { return bytes_; }

    // rested = awake, rounded; and awake = what rested has kept of it.
    void rest(std::byte* awake, std::byte* rested) const noexcept {
        each(
            [&]<class T>(const RestingArray& array, T, Index q, Index scales, Index) {
                T* const x = reinterpret_cast<T*>(awake + array.offset);
                auto* const kept = reinterpret_cast<std::int16_t*>(rested + q);
                T* const scale = reinterpret_cast<T*>(rested + scales);
                for (Index r = 0; r < array.rows; ++r)
                    scale[r] = kernels::round_to_int16(array.cols, x + r * array.cols,
                                                       kept + r * array.cols);
            },
            [&](Index from, Index to, Index size) {
                std::copy_n(awake + from, size, rested + to);
            });
    }
    // awake = what rested has kept.
    void wake(const std::byte* rested, std::byte* awake) const noexcept {
        each(
            [&]<class T>(const RestingArray& array, T, Index q, Index scales, Index) {
                T* const x = reinterpret_cast<T*>(awake + array.offset);
                const auto* const kept = reinterpret_cast<const std::int16_t*>(rested + q);
                const T* const scale = reinterpret_cast<const T*>(rested + scales);
                for (Index r = 0; r < array.rows; ++r)
                    kernels::widen_int16(array.cols, kept + r * array.cols, scale[r],
                                         x + r * array.cols);
            },
            [&](Index to, Index from, Index size) {
                std::copy_n(rested + from, size, awake + to);
            });
    }

    bool operator==(const RestingLayout&) const = default;

private:
    // resting(array, T(0), where its numbers and scales lie at rest, where they end) for every
    // array, same(place awake, place at rest, bytes) for all that lies before, between and behind.
    template <class Resting, class Same>
    void each(const Resting& resting, const Same& same) const {
        Index from = 0, to = 0;
        const auto copy_up_to = [&](Index end) {
            same(from, to, end - from);
            to += end - from;
        };
        const auto rest_one = [&]<class T>(const RestingArray& array, T zero) {
            const Index scales = to + arena_bytes<std::int16_t>(array.rows * array.cols),
                        end = scales + arena_bytes<T>(array.rows);
            resting(array, zero, to, scales, end);
            from = array.offset + arena_bytes<T>(array.rows * array.cols);
            to = end;
        };
        for (const RestingArray& array : arrays_) {
            copy_up_to(array.offset);
            if (array.wide) rest_one(array, double{});
            else rest_one(array, float{});
        }
        copy_up_to(awake_bytes_);
    }

    Index awake_bytes_ = 0, bytes_ = 0;
    std::vector<RestingArray> arrays_;
};

}  // namespace HYDRALM_NAMESPACE
