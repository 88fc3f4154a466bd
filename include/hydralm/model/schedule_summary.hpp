// schedule_summary: the layers of a model as one line for people.
#pragma once

#include <string>

#include "hydralm/model/config.hpp"

namespace HYDRALM_NAMESPACE {

// "5 x (D D D S): 15 deltanet, 5 swa" for twenty layers by the schedule, "D S R: 1 deltanet, 1 swa,
// 1 retrieval" for layers that do not repeat; kinds that do not occur are left out. config is
// valid. Allocates.
inline std::string schedule_summary(const HydraConfig& config) {
    const LayerTypes layers = resolved(config).layer_types;
    const int n = layers.size();
    int period = 1;
    const auto repeats = [&] {
        for (int i = period; i < n; ++i)
            if (layers[i] != layers[i - period]) return false;
        return n % period == 0;
    };
    while (!repeats()) ++period;

    std::string text;
    for (int i = 0; i < period; ++i) {
        if (i > 0) text += ' ';
        text += static_cast<char>(name(layers[i])[0] - 'a' + 'A');
    }
    if (period < n) text = std::to_string(n / period) + " x (" + text + ")";
    const char* separator = ": ";
    for (std::size_t i = 0; i < layer_type_names.size(); ++i) {
        const auto type = static_cast<LayerType>(i);
        if (layers.count_of(type) == 0) continue;
        text += separator + std::to_string(layers.count_of(type)) + ' ' + name(type);
        separator = ", ";
    }
    return text;
}

}  // namespace HYDRALM_NAMESPACE
