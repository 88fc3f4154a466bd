// Matrix products with packed weights: packing, product, epilogues, gradients, and the plain loops
// that specify them.
#pragma once

#include "hydralm/kernels/matmul/backward.hpp"
#include "hydralm/kernels/matmul/epilogue.hpp"
#include "hydralm/kernels/matmul/product.hpp"
#include "hydralm/kernels/matmul/reference.hpp"
