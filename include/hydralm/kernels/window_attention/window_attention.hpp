// Sliding-window attention: all forms.
#pragma once

#include "hydralm/kernels/window_attention/backward.hpp"
#include "hydralm/kernels/window_attention/forward.hpp"
#include "hydralm/kernels/window_attention/reference.hpp"
#include "hydralm/kernels/window_attention/step.hpp"
