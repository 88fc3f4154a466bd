// Layers whose q, k and v are projected and convolved apart, as OLMo-Hybrid and
// flash-linear-attention keep them: merged when they are read.
#pragma once

#include <string>

#include "hydralm/families/family.hpp"

namespace HYDRALM_NAMESPACE::families {

// All of a tensor, however many rows it has in the checkpoint; `rows` where it is missing.
inline TensorRows whole_of(const Checkpoint& checkpoint, const std::string& name, Index rows) {
    const StoredTensor* const stored = checkpoint.find(name);
    return whole(name, stored == nullptr ? rows : stored->rows());
}

// p: what the published names begin with. A convolution of one tap has no tensors: it is 1. Where
// the others are cut is the file's: OLMo's are thirds, whatever the widths of q, k and v.
inline void put_separate_delta_net(TensorMap& map, const std::string& mixer, const std::string& p,
                                   const RuntimeGroupedDeltaNetShape& s,
                                   const Checkpoint& checkpoint) {
    const Index H = s.value_heads, keys = s.key_heads * s.key_dim, values = H * s.value_dim;
    map.put(mixer + "qkv_proj.weight",
            {whole(p + "q_proj.weight", keys), whole(p + "k_proj.weight", keys),
             whole(p + "v_proj.weight", values)});
    const bool per_channel = s.decay_rank > 0;
    const Index decays = per_channel ? H * s.key_dim : H;
    if (per_channel) map.put(mixer + "decay_proj.weight", {whole(p + "f_proj.1.weight", decays)});
    map.put(mixer + "ab_proj.weight", {per_channel ? whole(p + "f_proj.0.weight", s.decay_rank)
                                                   : whole(p + "a_proj.weight", H),
                                       whole(p + "b_proj.weight", H)});
    map.put(mixer + "decay_log", {whole(p + "A_log", H)});
    map.put(mixer + "decay_bias", {whole(p + "dt_bias", decays)});
    if (s.conv_kernel == 1) map.put(mixer + "short_conv.conv.weight", {}, 1.0);
    else
        map.put(mixer + "short_conv.conv.weight",
                {whole_of(checkpoint, p + "q_conv1d.weight", keys),
                 whole_of(checkpoint, p + "k_conv1d.weight", keys),
                 whole_of(checkpoint, p + "v_conv1d.weight", values)});
    if (s.gate_rank > 0) {
        map.put(mixer + "gate_down.weight", {whole(p + "g_proj.0.weight", s.gate_rank)});
        map.put(mixer + "gate_proj.weight", {whole(p + "g_proj.1.weight", values)});
        map.put(mixer + "gate_bias", {whole(p + "g_proj.1.bias", values)});
    } else if (s.gate != OutputGate::none) {
        map.put(mixer + "gate_proj.weight", {whole(p + "g_proj.weight", values)});
    }
    map.put(mixer + "o_norm.weight", {whole(p + "o_norm.weight", s.value_dim)});
    map.put(mixer + "o_proj.weight", {whole(p + "o_proj.weight", s.d_model)});
}

inline void put_separate_attention(TensorMap& map, const std::string& mixer, const std::string& p,
                                   const RuntimeGroupedAttentionShape& s) {
    const Index queries = s.n_heads * s.head_dim, keys = s.n_kv_heads * s.head_dim;
    for (const char* const kind : {"weight", "bias"})
        map.put(mixer + "qkv_proj." + kind,
                {whole(p + "q_proj." + kind, queries), whole(p + "k_proj." + kind, keys),
                 whole(p + "v_proj." + kind, keys)});
    map.put(mixer + "o_proj.weight", {whole(p + "o_proj.weight", s.d_model)});
}

}  // namespace HYDRALM_NAMESPACE::families
