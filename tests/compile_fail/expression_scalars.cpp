// expect: hydralm: scalars: the operands of an expression must be all float or all double
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Other = float;
#else
using Other = double;
#endif

void add(hydralm::RowView<float> y, hydralm::RowView<const Other> x) { out(y) += x; }
