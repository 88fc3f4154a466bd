// Generate: decode tokens from a state, one by one, until a count or the caller ends it.
#pragma once

#include <span>

#include "hydralm/inference/sampling.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// Decodes at most count tokens that follow the logits of state's last token. Each sampled token is
// passed to keep_going(token): true feeds it and goes on; false ends the text before it is fed.
// stop_at makes one that ends at stop tokens. logits is what prefill or step returned for state.
// Returns how many tokens were fed. Reproducible for a seed of the sampler.
template <class Model, class KeepGoing>
Index generate(const Model& model, typename Model::State& state,
               std::span<const typename Model::Scalar> logits,
               Sampler<typename Model::Scalar>& sampler, Index count, const KeepGoing& keep_going) {
    for (Index n = 0; n < count; ++n) {
        const token_id token = sampler(logits);
        if (!keep_going(token)) return n;
        logits = model.step(token, state);
    }
    return std::max<Index>(count, 0);
}

}  // namespace HYDRALM_NAMESPACE
