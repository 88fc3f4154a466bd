// expect: hydralm: reduction: takes a row; call it for each row of a matrix
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Input = hydralm::RowView<const float>;
#else
using Input = hydralm::MatrixView<const float>;
#endif

float norm(Input x) { return sum(square(x)); }
