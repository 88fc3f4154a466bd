// Everything about SwiGLU's element-wise part.
#pragma once

#include "hydralm/kernels/swiglu/backward.hpp"
#include "hydralm/kernels/swiglu/forward.hpp"
#include "hydralm/kernels/swiglu/reference.hpp"
