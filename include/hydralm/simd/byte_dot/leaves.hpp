// The leaves that this architecture has, and the one this machine uses: the fastest it can run,
// asked once.
#pragma once

#include "hydralm/simd/byte_dot/avx2.hpp"
#include "hydralm/simd/byte_dot/neon_dot.hpp"
#include "hydralm/simd/byte_dot/portable.hpp"
#include "hydralm/simd/byte_dot/sse2.hpp"
#include "hydralm/simd/byte_dot/vnni512.hpp"

namespace HYDRALM_NAMESPACE::simd {

namespace detail {

// Fastest first; the last runs everywhere.
template <class... Leaves>
struct LeafList {
    static constexpr std::array<ByteDotLeaf, sizeof...(Leaves)> all{byte_dot_leaf<Leaves>...};
    // Names no leaf behind the first that is certain: what this unit cannot need is not compiled.
    static const ByteDotLeaf& fastest() noexcept { return fastest_of<Leaves...>(); }

private:
    template <class Leaf, class... Slower>
    static const ByteDotLeaf& fastest_of() noexcept {
        if constexpr (Leaf::certain) return byte_dot_leaf<Leaf>;
        else return Leaf::available() ? byte_dot_leaf<Leaf> : fastest_of<Slower...>();
    }
};

#if defined(__x86_64__)
using ByteDotLeaves = LeafList<Vnni512, AvxVnni, Avx2, Sse2, Portable>;
#elif defined(__aarch64__)
using ByteDotLeaves = LeafList<NeonDot, Portable>;
#else
using ByteDotLeaves = LeafList<Portable>;
#endif

}  // namespace detail

inline constexpr const auto& byte_dot_leaves = detail::ByteDotLeaves::all;

inline const ByteDotLeaf& byte_dot_leaf() noexcept {
    static const ByteDotLeaf& chosen = []() -> const ByteDotLeaf& {
#if defined(__x86_64__)
        __builtin_cpu_init();
#endif
        return detail::ByteDotLeaves::fastest();
    }();
    return chosen;
}

}  // namespace HYDRALM_NAMESPACE::simd
