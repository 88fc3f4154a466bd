// The checksum of files of ours.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

// The CRC-32 of zlib and gzip (RFC 1952) of these bytes behind those whose CRC-32 is before.
inline std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0) noexcept {
    if (bytes.empty()) return before;  // zlib takes a null pointer for a request to start anew
    const auto* data = reinterpret_cast<const Bytef*>(bytes.data());
    return static_cast<std::uint32_t>(::crc32_z(before, data, bytes.size()));
}

}  // namespace HYDRALM_NAMESPACE
