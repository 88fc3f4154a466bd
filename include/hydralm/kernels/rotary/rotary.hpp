// Rotary position embedding: all forms.
#pragma once

#include "hydralm/kernels/rotary/apply.hpp"
#include "hydralm/kernels/rotary/reference.hpp"
#include "hydralm/kernels/rotary/table.hpp"
