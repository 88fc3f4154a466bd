// The bytes of a state file whose accidents are mended, so that what lies behind them is reached.
#pragma once

#include <string>
#include <string_view>

#include "hydralm/io/state_file.hpp"

namespace hydralm::fuzz {

// input with the magic, version, length and checksum of a state file; as it is when too short.
inline std::string mended_state(std::string_view input) {
    detail::StateHeader header;
    std::uint32_t crc = 0;
    std::string file(input);
    if (file.size() < sizeof(header) + sizeof(crc)) return file;
    std::memcpy(&header.table_bytes, file.data() + offsetof(detail::StateHeader, table_bytes),
                sizeof(header.table_bytes));
    header.file_bytes = file.size();
    std::memcpy(file.data(), &header, sizeof(header));
    const std::size_t end = file.size() - sizeof(crc);
    crc = crc32(std::as_bytes(std::span(file).first(end)));
    std::memcpy(file.data() + end, &crc, sizeof(crc));
    return file;
}

}  // namespace hydralm::fuzz
