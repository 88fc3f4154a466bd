// The leaves that this architecture has, and the one this machine uses: the fastest it can run,
// asked once.
#pragma once

#include "hydralm/simd/byte_dot/avx2.hpp"
#include "hydralm/simd/byte_dot/neon_dot.hpp"
#include "hydralm/simd/byte_dot/portable.hpp"
#include "hydralm/simd/byte_dot/sse2.hpp"
#include "hydralm/simd/byte_dot/vnni512.hpp"

namespace HYDRALM_NAMESPACE::simd {

// Fastest first; the last runs everywhere.
inline constexpr auto byte_dot_leaves = [] {
    using namespace detail;
#if defined(__x86_64__)
    return std::array{byte_dot_leaf<Vnni512>, byte_dot_leaf<AvxVnni>, byte_dot_leaf<Avx2>,
                      byte_dot_leaf<Sse2>, byte_dot_leaf<Portable>};
#elif defined(__aarch64__)
    return std::array{byte_dot_leaf<NeonDot>, byte_dot_leaf<Portable>};
#else
    return std::array{byte_dot_leaf<Portable>};
#endif
}();

inline const ByteDotLeaf& byte_dot_leaf() noexcept {
    static const ByteDotLeaf& chosen = *[] {
#if defined(__x86_64__)
        __builtin_cpu_init();
#endif
        const ByteDotLeaf* leaf = byte_dot_leaves.data();
        while (!leaf->available()) ++leaf;
        return leaf;
    }();
    return chosen;
}

}  // namespace HYDRALM_NAMESPACE::simd
