// Element-wise work written as it is thought, over views, as one fused loop: out(y) = silu(g) * u.
//
// Operands are views, spans, pointers of known length and numbers; a tree holds them by value and
// is evaluated where it is assigned or summed. docs/expressions.md shows how to use it.
#pragma once

#include "hydralm/simd/expression/assign.hpp"
#include "hydralm/simd/expression/function.hpp"
#include "hydralm/simd/expression/reduce.hpp"
