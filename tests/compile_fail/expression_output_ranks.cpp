// expect: hydralm: rank: the outputs must be all rows or all matrices
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Other = hydralm::MatrixView<float>;
#else
using Other = hydralm::RowView<float>;
#endif

void clear(hydralm::MatrixView<float> m, Other v) { out(m, v) = hydralm::values(0, 0); }
