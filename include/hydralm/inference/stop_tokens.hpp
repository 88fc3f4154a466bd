// stop_at: ends a generated text at any of some tokens.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// A keep_going for generate and SpeculativeDecoder::generate: false at a stop token, which is
// neither fed nor shown to keep_going; keep_going(token) at all others. Any number of stop tokens,
// also none; an id that the model does not have never comes. Cost: one comparison a stop token.
template <class KeepGoing>
auto stop_at(std::vector<token_id> stops, KeepGoing keep_going) {
    return [stops = std::move(stops), keep_going = std::move(keep_going)](token_id token) {
        return std::find(stops.begin(), stops.end(), token) == stops.end() && keep_going(token);
    };
}

}  // namespace HYDRALM_NAMESPACE
