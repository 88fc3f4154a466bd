// Blocks of parameters: 2^14 elements of one tensor, fewer at its end; what an update, the norm of
// a gradient and the share of a process are made of. They are of the model alone, so that neither
// threads nor processes change a number.
#pragma once

#include <vector>

#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

inline constexpr Index parameter_block = 1 << 14;

struct ParameterBlock {
    Index first = 0, size = 0;  // elements of the flat buffer in file order
};

// Of all parameters, in file order.
inline std::vector<ParameterBlock> parameter_blocks(std::span<const ParameterInfo> infos) {
    std::vector<ParameterBlock> blocks;
    Index first = 0;
    for (const ParameterInfo& info : infos)
        for (const Index end = first + info.size(); first < end; first += blocks.back().size)
            blocks.push_back({first, std::min(parameter_block, end - first)});
    return blocks;
}

}  // namespace HYDRALM_NAMESPACE
