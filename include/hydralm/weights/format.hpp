// Format: what the weights of a matrix are kept in, as a value.
#pragma once

#include <cstdint>
#include <string_view>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::weights {

enum class Format : std::uint8_t {
    scalar,  // of the model, float or double
    bf16,
};

constexpr std::string_view name(Format format) noexcept {
    return format == Format::scalar ? "float" : "bf16";
}

}  // namespace HYDRALM_NAMESPACE::weights
