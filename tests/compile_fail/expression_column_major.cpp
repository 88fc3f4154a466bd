// expect: hydralm: layout: the elements of a row must be contiguous; make the matrix Eigen::RowMajor
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Matrix = Eigen::Matrix<float, 8, 8, Eigen::RowMajor>;
#else
using Matrix = Eigen::Matrix<float, 8, 8>;
#endif

void halve(Matrix& x) { out(hydralm::view(x)) = 0.5 * hydralm::view(x); }
