// KeyValuePage: how C keys and C values of one head lie in a page, how they are written, and how
// they are read in every format.
//
// Keys lie transposed, so that scores are sums of rows. Rows are padded to 64 bytes, of whatever
// instruction set; the padding is zero.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "hydralm/core/bfloat16.hpp"
#include "hydralm/core/paged_past.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Of T, head dimension D, C tokens a page. No allocation, no errors.
template <Real T, Index D, Index C>
class KeyValuePage {
public:
    static constexpr Index unit = static_cast<Index>(alignment / sizeof(T));  // of every row
    static constexpr Index key_stride = round_up(C, unit);
    static constexpr Index value_stride = round_up(D, unit);

    // That one head takes.
    static constexpr Index bytes(BankFormat format) noexcept { return of(format).bytes; }

    // In the exact format, where the gradient of a stream reads and writes.
    static T* keys(std::byte* page) noexcept {  // [D, key_stride]
        return at<T>(page, exact.keys);
    }
    static T* values(std::byte* page) noexcept {  // [C, value_stride]
        return at<T>(page, exact.values);
    }

    // Keys and values as numbers: where they lie, or decoded into scratch.
    struct Rows {
        const T* keys;    // [D, key_stride]
        const T* values;  // [C, value_stride]
    };
    static constexpr Index scratch_elements = D * key_stride + C * value_stride;
    static Rows read(std::byte* page, BankFormat format, T* scratch) noexcept {
        if (format == BankFormat::exact) return {keys(page), values(page)};
        T* const decoded = scratch + D * key_stride;
        read_keys(page, format, scratch);
        if (format == BankFormat::bf16) {
            decode(C * value_stride, at<std::uint16_t>(page, bf16.values), decoded);
        } else {
            const T* const scales = at<T>(page, int8.value_scales);
            for (Index j = 0; j < C; ++j)
                decode(
                    value_stride, at<std::int8_t>(page, int8.values) + j * value_stride,
                    [s = scales[j]](Index) { return s; }, decoded + j * value_stride);
        }
        return {scratch, decoded};
    }
    static const T* read_keys(std::byte* page, BankFormat format, T* scratch) noexcept {
        if (format == BankFormat::exact) return keys(page);
        if (format == BankFormat::bf16) {
            decode(D * key_stride, at<std::uint16_t>(page, bf16.keys), scratch);
        } else {
            const T* const scales = at<T>(page, int8.key_scales);
            for (Index d = 0; d < D; ++d)
                decode(
                    key_stride, at<std::int8_t>(page, int8.keys) + d * key_stride,
                    [scales](Index j) { return scales[j]; }, scratch + d * key_stride);
        }
        return scratch;
    }

    // Row j: key and value [D].
    static void put(std::byte* page, BankFormat format, Index j, const T* key,
                    const T* value) noexcept {
        if (format == BankFormat::exact) {
            scatter(keys(page) + j, key, [](T x) { return x; });
            std::copy_n(value, D, values(page) + j * value_stride);
        } else if (format == BankFormat::bf16) {
            const auto round = [](T x) { return bf16_from(x); };
            scatter(at<std::uint16_t>(page, bf16.keys) + j, key, round);
            std::transform(value, value + D,
                           at<std::uint16_t>(page, bf16.values) + j * value_stride, round);
        } else {
            T& key_scale = at<T>(page, int8.key_scales)[j];
            T& value_scale = at<T>(page, int8.value_scales)[j];
            key_scale = scale_of(key);
            value_scale = scale_of(value);
            scatter(at<std::int8_t>(page, int8.keys) + j, key, rounded_to(key_scale));
            std::transform(value, value + D, at<std::int8_t>(page, int8.values) + j * value_stride,
                           rounded_to(value_scale));
        }
    }

private:
    // Where the parts lie, in bytes.
    struct Places {
        Index key_scales, value_scales, keys, values, bytes;
    };
    static constexpr Places places(BankFormat format) noexcept {
        constexpr auto line = static_cast<Index>(alignment);
        const Index scales =
                        format == BankFormat::int8 ? key_stride * static_cast<Index>(sizeof(T)) : 0,
                    width = format == BankFormat::exact  ? static_cast<Index>(sizeof(T))
                            : format == BankFormat::bf16 ? 2
                                                         : 1;
        Places p{0, scales, 2 * scales, 0, 0};
        p.values = p.keys + round_up(D * key_stride * width, line);
        p.bytes = p.values + round_up(C * value_stride * width, line);
        return p;
    }
    static constexpr Places exact = places(BankFormat::exact), bf16 = places(BankFormat::bf16),
                            int8 = places(BankFormat::int8);
    static constexpr const Places& of(BankFormat format) noexcept {
        return format == BankFormat::exact ? exact : format == BankFormat::bf16 ? bf16 : int8;
    }

    template <class U>
    static U* at(std::byte* page, Index offset) noexcept {
        return reinterpret_cast<U*>(page + offset);
    }
    static void decode(Index n, const std::uint16_t* from, T* to) noexcept {
        for (Index i = 0; i < n; ++i) to[i] = static_cast<T>(float_from_bf16(from[i]));
    }
    template <class Scale>
    static void decode(Index n, const std::int8_t* from, Scale scale, T* to) noexcept {
        for (Index i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]) * scale(i);
    }
    template <class U, class F>
    static void scatter(U* column, const T* key, F f) noexcept {
        for (Index d = 0; d < D; ++d) column[d * key_stride] = f(key[d]);
    }
    // NaN for values that are not all finite: what cannot be kept comes back as NaN.
    static T scale_of(const T* x) noexcept {
        T largest(0), poison(0);
        for (Index d = 0; d < D; ++d) {
            largest = std::max(largest, std::abs(x[d]));
            poison += x[d] * T(0);
        }
        return largest / T(127) + poison;
    }
    static auto rounded_to(T scale) noexcept {
        return [scale](T x) -> std::int8_t {
            if (!(scale > T(0))) return 0;  // times 0 or NaN
            return static_cast<std::int8_t>(std::lrint(std::clamp(x / scale, T(-127), T(127))));
        };
    }
};

}  // namespace HYDRALM_NAMESPACE::kernels
