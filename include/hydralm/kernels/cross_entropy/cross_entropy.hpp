// Everything about cross-entropy.
#pragma once

#include "hydralm/kernels/cross_entropy/backward.hpp"
#include "hydralm/kernels/cross_entropy/forward.hpp"
#include "hydralm/kernels/cross_entropy/reference.hpp"
