// Retrieval attention: umbrella of the inference forms.
#pragma once

#include "hydralm/kernels/retrieval/attend.hpp"
#include "hydralm/kernels/retrieval/reference.hpp"
#include "hydralm/kernels/retrieval/route.hpp"
