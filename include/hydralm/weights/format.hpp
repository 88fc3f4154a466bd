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
    constexpr std::string_view names[]{"float", "bf16", "q8", "q4"};
    return names[static_cast<std::size_t>(format)];
}

}  // namespace HYDRALM_NAMESPACE::weights
