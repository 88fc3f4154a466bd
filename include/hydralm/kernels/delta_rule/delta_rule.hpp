// The gated delta rule: all forms. See README.md for the derivation.
#pragma once

#include "hydralm/kernels/delta_rule/backward.hpp"
#include "hydralm/kernels/delta_rule/backward_reference.hpp"
#include "hydralm/kernels/delta_rule/chunkwise.hpp"
#include "hydralm/kernels/delta_rule/recurrent.hpp"
#include "hydralm/kernels/delta_rule/reference.hpp"
#include "hydralm/kernels/delta_rule/transition.hpp"
