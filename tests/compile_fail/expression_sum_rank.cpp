// expect: hydralm: rank: assign_and_sum sums one row; call it row by row
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Output = hydralm::RowView<float>;
#else
using Output = hydralm::MatrixView<float>;
#endif

float total(Output y) { return out(y).assign_and_sum(2 * y); }
