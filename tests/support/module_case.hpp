// A whole module, from which the compile-fail cases of modules take one part away.
#pragma once

#include "hydralm/layers/gated_delta_net_backward.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/language_model.hpp"

namespace hydralm::test {

using Whole = GatedDeltaNet<float, 8, 0, DeltaNetShape<16, 2>>;
using Mlp = SwiGLU<float, MlpShape<16, 32>>;
using Norm = RmsNorm<float, NormShape<16>>;
template <class Mixer>
using BlockOf = Block<Mixer, Mlp, Norm>;

}  // namespace hydralm::test
