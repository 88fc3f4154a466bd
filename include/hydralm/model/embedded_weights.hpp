// EmbeddedWeights: the weights of a model as a constant of the program, read where it lies.
// `hydralm embed` writes them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "hydralm/core/types.hpp"
#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE {

// Model: a LanguageModel. vector_bytes: of the vectors whose panels the float and bf16 matrices are
// laid out in. Must outlive the models made over it.
template <class Model, Index vector_bytes>
struct alignas(alignment) EmbeddedWeights {
    static_assert(std::endian::native == std::endian::little,
                  "hydralm: embedded weights: must be read by a little-endian machine; load a "
                  "checkpoint instead");
    static_assert(vector_bytes == simd::vector_bytes,
                  "hydralm: embedded weights: must be laid out for the vectors that this unit is "
                  "compiled for; give hydralm embed their --vector-bytes, 16, 32 or 64");

    // Aligned as every tensor is: Model::weight_bytes is a multiple of 64.
    std::uint64_t words[static_cast<std::size_t>(Model::weight_bytes) / 8];

    std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(words)); }
};

}  // namespace HYDRALM_NAMESPACE
