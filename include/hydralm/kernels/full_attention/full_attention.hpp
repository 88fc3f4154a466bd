// Attention to the whole past: the specification, the fast form, the gradient.
#pragma once

#include "hydralm/kernels/full_attention/backward.hpp"
#include "hydralm/kernels/full_attention/forward.hpp"
#include "hydralm/kernels/full_attention/reference.hpp"
#include "hydralm/kernels/full_attention/sparse.hpp"
