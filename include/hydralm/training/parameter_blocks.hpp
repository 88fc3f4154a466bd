// Blocks of parameters: 2^14 elements of one tensor, fewer at its end; what an update, the norm of
// a gradient and the share of a process are made of. They are of the model alone, so that neither
// threads nor processes change a number.
#pragma once

#include <cstdlib>
#include <span>
#include <vector>

#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

inline constexpr Index parameter_block = 1 << 14;

struct ParameterBlock {
    Index first = 0, size = 0;  // elements of the flat buffer in file order
    std::size_t tensor = 0;     // whose they are
};

// Of all parameters, in file order.
inline std::vector<ParameterBlock> parameter_blocks(std::span<const ParameterInfo> infos) {
    std::vector<ParameterBlock> blocks;
    Index first = 0;
    for (std::size_t i = 0; i < infos.size(); ++i)
        for (const Index end = first + infos[i].size(); first < end; first += blocks.back().size)
            blocks.push_back({first, std::min(parameter_block, end - first), i});
    return blocks;
}

// Where the shares of `ranks` ranks end, in blocks: each a run of them, as near to equal as tensors
// allow for which whole(tensor) holds, which are not cut. A share may be empty.
template <class Whole>
std::vector<Index> deal_blocks(std::span<const ParameterBlock> blocks, int ranks,
                               const Whole& whole) {
    const Index n = std::ssize(blocks);
    const auto at = [&](Index i) -> const auto& { return blocks[static_cast<std::size_t>(i)]; };
    const auto begin = [&](Index i) { return i == 0 ? 0 : at(i - 1).first + at(i - 1).size; };
    const auto cuttable = [&](Index i) {
        return i == 0 || i == n || at(i).tensor != at(i - 1).tensor || !whole(at(i).tensor);
    };
    std::vector<Index> ends;
    for (Index r = 1, end = 0; r < ranks; ++r) {
        const Index target = begin(n) / ranks * r;
        for (Index i = end + 1; i <= n; ++i)
            if (cuttable(i) && std::abs(begin(i) - target) < std::abs(begin(end) - target)) end = i;
        ends.push_back(end);
    }
    ends.push_back(n);
    return ends;
}

}  // namespace HYDRALM_NAMESPACE
