// Retrieval attention: the place of the chunk-sparse mixer in the schedule. Using it does not
// compile yet.
#pragma once

#include "hydralm/layers/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
class RetrievalAttention {
    static_assert(HeadDim == 0,
                  "hydralm: layer_types: retrieval layers are not available in this version; set "
                  "retrieval_every = 0 or name deltanet and swa layers only");
};

}  // namespace HYDRALM_NAMESPACE
