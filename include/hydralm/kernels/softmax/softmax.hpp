// Everything about softmax.
#pragma once

#include "hydralm/kernels/softmax/backward.hpp"
#include "hydralm/kernels/softmax/forward.hpp"
#include "hydralm/kernels/softmax/log_sum_exp.hpp"
#include "hydralm/kernels/softmax/reference.hpp"
