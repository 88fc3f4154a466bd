// kernels_in_use: what computes a model on this machine, as lines for people.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "hydralm/model/config.hpp"
#include "hydralm/simd/byte_dot/leaves.hpp"
#include "hydralm/weights/format.hpp"

namespace HYDRALM_NAMESPACE {

struct KernelInUse {
    std::string operation;  // as its folder in kernels/ is called; "heads" and "chunks" for sizes
    std::string form;
};

namespace detail {

// "of 32", or "of 24: generic, by kernels for 32" where none is compiled for them.
inline std::string size_in_use(Index size, Index kernel) {
    const std::string of = "of " + std::to_string(size);
    return size == kernel ? of : of + ": generic, by kernels for " + std::to_string(kernel);
}

// The formats of matrices that may be in any, as "float" or "q8 and q4", and what multiplies blocks
// of them.
template <class Model>
std::string formats_in_use(const Model& model) {
    std::string found;
    bool blocks = false;
    using weights::Format;
    for (const Format format : {Format::scalar, Format::bf16, Format::q8, Format::q4})
        if (std::ranges::any_of(model.parameters, [&](const auto& info) {
                return info.law.any_format && info.format == format;
            })) {
            (found += found.empty() ? "" : " and ") += name(format);
            blocks = blocks || format == Format::q8 || format == Format::q4;
        }
    return blocks ? found + ", blocks by " + simd::byte_dot_leaf().name : found;
}

}  // namespace detail

// The operations of a HydraLM or a RuntimeModel, those of mixers where it has such layers, and the
// form that computes each. Allocates.
template <class Model>
std::vector<KernelInUse> kernels_in_use(const Model& model) {
    const HydraConfig& c = model.config;
    Index head_dim = c.head_dim, chunk = c.retrieval_chunk_size;
    bool paged = false;  // a window's keys and values too
    if constexpr (requires { model.kernel_head_dim; }) {
        head_dim = model.kernel_head_dim, chunk = model.kernel_chunk;
        paged = model.hybrid.has_value();
    }
    const auto has = [&](LayerType type) { return c.layer_types.count_of(type) > 0; };
    const bool windows = has(LayerType::swa), retrieves = has(LayerType::retrieval),
               deltas = has(LayerType::deltanet), attends = windows || has(LayerType::full);

    std::vector<KernelInUse> all{{"heads", detail::size_in_use(c.head_dim, head_dim)}};
    const auto add = [&](bool used, const char* operation, const std::string& form) {
        if (used) all.push_back({operation, form});
    };
    add(retrieves, "chunks", detail::size_in_use(c.retrieval_chunk_size, chunk));
    add(true, "matmul", "packed panels, matrices in " + detail::formats_in_use(model));
    add(true, "rms_norm", "simd");
    add(attends, "rotary", "simd, angles in double");
    add(deltas || retrieves, "short_conv", "simd");
    add(true, "swiglu", "fused in matmul");
    add(deltas, "delta_rule", "chunkwise, recurrent in step");
    add(windows && !paged, "window_attention", "tiled, one pass in step");
    add(has(LayerType::full) || (windows && paged), "full_attention",
        "page by page, the same in step");
    add(retrieves, "retrieval", "queries grouped by chunk, the same in step");
    return all;
}

}  // namespace HYDRALM_NAMESPACE
