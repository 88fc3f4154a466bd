// Version and ABI namespace: the only macros of the library.
//
// Everything lives in hydralm::<abi>, an inline namespace named after the vector instructions the
// translation unit is compiled for. Two units whose names differ do not share inline functions:
// both work in one program, and passing a hydralm type between them is a link error instead of a
// wrong answer. What they share of other libraries is that of the unit linked first, which should
// be the one for the oldest processor. Units without exceptions (-fno-exceptions), which end where
// others throw, have a namespace of their own in it. Flags beyond the names (-march=haswell,
// icelake-server) must be those of all units.
#pragma once

#if __cplusplus < 202002L
#error "hydralm: C++ standard: expected C++20 or newer; compile with -std=c++20"
#endif

#define HYDRALM_VERSION_MAJOR 0
#define HYDRALM_VERSION_MINOR 1
#define HYDRALM_VERSION_PATCH 0

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512CD__)
#define HYDRALM_ABI v0_avx512
#elif defined(__AVX512F__)
#define HYDRALM_ABI v0_avx512_partial
#elif defined(__AVX2__) && defined(__FMA__)
#define HYDRALM_ABI v0_avx2
#elif defined(__AVX2__)
#define HYDRALM_ABI v0_avx2_without_fma
#elif defined(__AVX__) && defined(__FMA__)
#define HYDRALM_ABI v0_avx_fma
#elif defined(__AVX__)
#define HYDRALM_ABI v0_avx
#elif defined(__SSE4_2__)
#define HYDRALM_ABI v0_sse4_2
#elif defined(__SSE4_1__)
#define HYDRALM_ABI v0_sse4_1
#elif defined(__SSSE3__)
#define HYDRALM_ABI v0_ssse3
#elif defined(__SSE3__)
#define HYDRALM_ABI v0_sse3
#elif defined(__ARM_NEON)
#define HYDRALM_ABI v0_neon
#else
#define HYDRALM_ABI v0_baseline
#endif

#if defined(__cpp_exceptions)
#define HYDRALM_NAMESPACE hydralm::inline HYDRALM_ABI
#else
#define HYDRALM_NAMESPACE hydralm::inline HYDRALM_ABI::inline without_exceptions
#endif

#include "hydralm/core/ieee.hpp"
