// Everything about RMS normalisation and unit-length heads.
#pragma once

#include "hydralm/kernels/rms_norm/backward.hpp"
#include "hydralm/kernels/rms_norm/forward.hpp"
#include "hydralm/kernels/rms_norm/l2_normalize.hpp"
#include "hydralm/kernels/rms_norm/reference.hpp"
