// FullAttentionPast: where one group's keys and values of all tokens lie in the pages of the past.
#pragma once

#include "hydralm/kernels/key_value_page.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Of T, head dimension D (dynamic: that of `page`), C tokens a page; a page holds one part for
// every group, in order.
template <Real T, Index D, Index C>
struct FullAttentionPast {
    static_assert(
        D == dynamic || (D >= 4 && D % 4 == 0),
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    using Page = KeyValuePage<T, D, C>;

    PageView pages;
    BankFormat format = BankFormat::exact;
    Index group = 0;
    Page page{};

    std::byte* part(Index c) const noexcept { return pages.page(c) + group * page.bytes(format); }
    // Token t: rotated key and value [D].
    void put(std::int64_t t, const T* key, const T* value) const noexcept {
        page.put(part(static_cast<Index>(t / C)), format, static_cast<Index>(t % C), key, value);
    }
    typename Page::Rows read(Index c, T* scratch) const noexcept {
        return page.read(part(c), format, scratch);
    }
};

}  // namespace HYDRALM_NAMESPACE::kernels
