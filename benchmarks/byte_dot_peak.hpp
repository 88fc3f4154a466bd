// The most operations on bytes a second: the instructions of a leaf of simd/byte_dot/ in a loop on
// registers, measured in this process as machine_peak.hpp measures the FMA peak.
#pragma once

#include <string_view>

#include "hydralm/simd/byte_dot/leaves.hpp"
#include "machine_peak.hpp"

namespace hydralm::benchmarks {
namespace detail {

#if defined(__x86_64__)
// 12 chains of the instruction, steps times: operations done. Written out, since a compiler would
// fold a loop over constants.
[[gnu::target("avx512f,avx512vnni")]] inline double dot_loop_512(Index steps) noexcept {
    for (Index i = 0; i < steps; ++i)
        asm volatile(
            "vpdpbusd %%zmm14,%%zmm15,%%zmm0\n vpdpbusd %%zmm14,%%zmm15,%%zmm1\n"
            "vpdpbusd %%zmm14,%%zmm15,%%zmm2\n vpdpbusd %%zmm14,%%zmm15,%%zmm3\n"
            "vpdpbusd %%zmm14,%%zmm15,%%zmm4\n vpdpbusd %%zmm14,%%zmm15,%%zmm5\n"
            "vpdpbusd %%zmm14,%%zmm15,%%zmm6\n vpdpbusd %%zmm14,%%zmm15,%%zmm7\n"
            "vpdpbusd %%zmm14,%%zmm15,%%zmm8\n vpdpbusd %%zmm14,%%zmm15,%%zmm9\n"
            "vpdpbusd %%zmm14,%%zmm15,%%zmm10\n vpdpbusd %%zmm14,%%zmm15,%%zmm11\n" ::
                : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                  "xmm10", "xmm11");
    return 12.0 * 128 * static_cast<double>(steps);
}
[[gnu::target("avx2,avxvnni")]] inline double dot_loop_256(Index steps) noexcept {
    for (Index i = 0; i < steps; ++i)
        asm volatile(
            "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm0\n %{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm1\n"
            "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm2\n %{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm3\n"
            "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm4\n %{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm5\n"
            "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm6\n %{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm7\n"
            "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm8\n %{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm9\n"
            "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm10\n %{vex%} vpdpbusd "
            "%%ymm14,%%ymm15,%%ymm11\n" ::
                : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                  "xmm10", "xmm11");
    return 12.0 * 64 * static_cast<double>(steps);
}
[[gnu::target("avx2")]] inline double word_loop_256(Index steps) noexcept {
    for (Index i = 0; i < steps; ++i)
        asm volatile(
            "vpmaddwd %%ymm14,%%ymm15,%%ymm8\n vpaddd %%ymm8,%%ymm0,%%ymm0\n"
            "vpmaddwd %%ymm14,%%ymm15,%%ymm9\n vpaddd %%ymm9,%%ymm1,%%ymm1\n"
            "vpmaddwd %%ymm14,%%ymm15,%%ymm10\n vpaddd %%ymm10,%%ymm2,%%ymm2\n"
            "vpmaddwd %%ymm14,%%ymm15,%%ymm11\n vpaddd %%ymm11,%%ymm3,%%ymm3\n"
            "vpmaddwd %%ymm14,%%ymm15,%%ymm12\n vpaddd %%ymm12,%%ymm4,%%ymm4\n"
            "vpmaddwd %%ymm14,%%ymm15,%%ymm13\n vpaddd %%ymm13,%%ymm5,%%ymm5\n" ::
                : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm8", "xmm9", "xmm10", "xmm11",
                  "xmm12", "xmm13");
    return 6.0 * 32 * static_cast<double>(steps);
}
#endif

}  // namespace detail

// Operations/s on that many threads (a multiply-add counts 2) of the instructions of a leaf; 0 for
// one whose peak nobody wrote a loop for.
inline double measured_byte_dot_peak(const simd::ByteDotLeaf& leaf, int threads) {
    static std::map<std::pair<std::string_view, int>, double> known;
    const std::pair key(std::string_view(leaf.name), threads);
    if (const auto found = known.find(key); found != known.end()) return found->second;
    double (*loop)(Index) noexcept = nullptr;
#if defined(__x86_64__)
    if (key.first == "avx512-vnni") loop = detail::dot_loop_512;
    if (key.first == "avx-vnni") loop = detail::dot_loop_256;
    if (key.first == "avx2") loop = detail::word_loop_256;
#endif
    if (loop == nullptr) return known[key] = 0;
    constexpr Index steps = 50'000;
    const Index tasks = 8 * threads;
    const double seconds =
        detail::best_seconds(threads, tasks, [&](Index) { detail::keep(loop(steps)); });
    return known[key] = loop(steps) * static_cast<double>(tasks) / seconds;
}

}  // namespace hydralm::benchmarks
