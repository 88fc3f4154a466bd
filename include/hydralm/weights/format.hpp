// Format: what the weights of a matrix are kept in, as a value.
#pragma once

#include <cstdint>
#include <string_view>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::weights {

enum class Format : std::uint8_t {
    scalar,  // of the model, float or double
    bf16,
    q8,  // blocks of 32, quantised_block.hpp
    q4,
};

constexpr std::string_view name(Format format) noexcept {
    switch (format) {
        case Format::bf16: return "bf16";
        case Format::q8: return "q8";
        case Format::q4: return "q4";
        case Format::scalar: break;
    }
    return "float";
}

}  // namespace HYDRALM_NAMESPACE::weights
