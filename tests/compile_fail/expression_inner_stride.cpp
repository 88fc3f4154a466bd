// expect: hydralm: layout: the elements of a row must be contiguous; use an inner stride of 1
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Stride = Eigen::InnerStride<1>;
#else
using Stride = Eigen::InnerStride<2>;
#endif

float total(Eigen::Map<const Eigen::VectorXf, 0, Stride> x) { return sum(hydralm::view(x)); }
