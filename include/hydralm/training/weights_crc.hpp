// A number of a model's weights, to tell whether two have the same.
#pragma once

#include "hydralm/io/crc32.hpp"
#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

// The CRC-32 of a model's weights in file order.
template <class Model>
std::uint32_t weights_crc(const Model& model) {
    std::uint32_t crc = 0;
    model.get_parameters(
        [&](const ParameterInfo&, auto values) { crc = crc32(std::as_bytes(values), crc); });
    return crc;
}

}  // namespace HYDRALM_NAMESPACE
