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
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/paged_past.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Of T, head dimension D (dynamic: given when it is made), C tokens a page. No allocation, no
// errors.
template <Real T, Index D, Index C>
class KeyValuePage {
public:
    static constexpr Index unit = static_cast<Index>(alignment / sizeof(T));  // of every row
    static constexpr Index key_stride = round_up(C, unit);

    constexpr KeyValuePage() noexcept
        requires(D != dynamic)
        : width_(D) {}
    constexpr explicit KeyValuePage(Index head_dim) noexcept : width_(head_dim) {}
    constexpr Index head_dim() const noexcept { return width_.value(); }
    constexpr Index value_stride() const noexcept { return round_up(head_dim(), unit); }

    // That one head takes.
    constexpr Index bytes(BankFormat format) const noexcept { return places(format).bytes; }

    // In the exact format, where the gradient of a stream reads and writes.
    T* keys(std::byte* page) const noexcept {  // [D, key_stride]
        return at<T>(page, places(BankFormat::exact).keys);
    }
    T* values(std::byte* page) const noexcept {  // [C, value_stride]
        return at<T>(page, places(BankFormat::exact).values);
    }

    // Keys and values as numbers: where they lie, or decoded into scratch.
    struct Rows {
        const T* keys;    // [D, key_stride]
        const T* values;  // [C, value_stride]
    };
    constexpr Index scratch_elements() const noexcept {
        return head_dim() * key_stride + C * value_stride();
    }
    Rows read(std::byte* page, BankFormat format, T* scratch) const noexcept {
        if (format == BankFormat::exact) return {keys(page), values(page)};
        const Places p = places(format);
        const Index stride = value_stride();
        T* const decoded = scratch + head_dim() * key_stride;
        read_keys(page, format, scratch);
        if (format == BankFormat::bf16) {
            decode(C * stride, at<std::uint16_t>(page, p.values), decoded);
        } else {
            const T* const scales = at<T>(page, p.value_scales);
            for (Index j = 0; j < C; ++j)
                decode(
                    stride, at<std::int8_t>(page, p.values) + j * stride,
                    [s = scales[j]](Index) { return s; }, decoded + j * stride);
        }
        return {scratch, decoded};
    }
    const T* read_keys(std::byte* page, BankFormat format, T* scratch) const noexcept {
        if (format == BankFormat::exact) return keys(page);
        const Places p = places(format);
        if (format == BankFormat::bf16) {
            decode(head_dim() * key_stride, at<std::uint16_t>(page, p.keys), scratch);
        } else {
            const T* const scales = at<T>(page, p.key_scales);
            for (Index d = 0; d < head_dim(); ++d)
                decode(
                    key_stride, at<std::int8_t>(page, p.keys) + d * key_stride,
                    [scales](Index j) { return scales[j]; }, scratch + d * key_stride);
        }
        return scratch;
    }

    // Row j: key and value [D].
    void put(std::byte* page, BankFormat format, Index j, const T* key,
             const T* value) const noexcept {
        const Places p = places(format);
        const Index width = head_dim(), row = j * value_stride();
        if (format == BankFormat::exact) {
            scatter(at<T>(page, p.keys) + j, key, [](T x) { return x; });
            std::copy_n(value, width, at<T>(page, p.values) + row);
        } else if (format == BankFormat::bf16) {
            const auto round = [](T x) { return bf16_from(x); };
            scatter(at<std::uint16_t>(page, p.keys) + j, key, round);
            std::transform(value, value + width, at<std::uint16_t>(page, p.values) + row, round);
        } else {
            T& key_scale = at<T>(page, p.key_scales)[j];
            T& value_scale = at<T>(page, p.value_scales)[j];
            key_scale = scale_of(key);
            value_scale = scale_of(value);
            scatter(at<std::int8_t>(page, p.keys) + j, key, rounded_to(key_scale));
            std::transform(value, value + width, at<std::int8_t>(page, p.values) + row,
                           rounded_to(value_scale));
        }
    }

private:
    // Where the parts lie, in bytes.
    struct Places {
        Index key_scales, value_scales, keys, values, bytes;
    };
    constexpr Places places(BankFormat format) const noexcept {
        constexpr auto line = static_cast<Index>(alignment);
        const Index scales =
                        format == BankFormat::int8 ? key_stride * static_cast<Index>(sizeof(T)) : 0,
                    width = format == BankFormat::exact  ? static_cast<Index>(sizeof(T))
                            : format == BankFormat::bf16 ? 2
                                                         : 1;
        Places p{0, scales, 2 * scales, 0, 0};
        p.values = p.keys + round_up(head_dim() * key_stride * width, line);
        p.bytes = p.values + round_up(C * value_stride() * width, line);
        return p;
    }

    template <class U>
    static U* at(std::byte* page, Index offset) noexcept {
        return reinterpret_cast<U*>(page + offset);
    }
    // By hand, as what follows: elements of another type than T, or key_stride apart.
    static void decode(Index n, const std::uint16_t* from, T* to) noexcept {
        for (Index i = 0; i < n; ++i) to[i] = static_cast<T>(float_from_bf16(from[i]));
    }
    template <class Scale>
    static void decode(Index n, const std::int8_t* from, Scale scale, T* to) noexcept {
        for (Index i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]) * scale(i);
    }
    template <class U, class F>
    void scatter(U* column, const T* key, F f) const noexcept {
        for (Index d = 0; d < head_dim(); ++d) column[d * key_stride] = f(key[d]);
    }
    // NaN for values that are not all finite: what cannot be kept comes back as NaN.
    T scale_of(const T* x) const noexcept {
        T largest(0), poison(0);
        for (Index d = 0; d < head_dim(); ++d) {
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

    [[no_unique_address]] hydralm::detail::ColumnExtent<D> width_;
};

}  // namespace HYDRALM_NAMESPACE::kernels
