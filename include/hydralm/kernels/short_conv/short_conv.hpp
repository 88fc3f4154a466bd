// Causal depthwise convolution: all forms.
#pragma once

#include "hydralm/kernels/short_conv/backward.hpp"
#include "hydralm/kernels/short_conv/forward.hpp"
#include "hydralm/kernels/short_conv/reference.hpp"
#include "hydralm/kernels/short_conv/rewind.hpp"
