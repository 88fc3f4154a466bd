// expect: hydralm: rank: a matrix does not fit into a row; give out() a matrix
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Output = hydralm::MatrixView<float>;
#else
using Output = hydralm::RowView<float>;
#endif

void copy(Output y, hydralm::MatrixView<const float> x) { out(y) = 2 * x; }
