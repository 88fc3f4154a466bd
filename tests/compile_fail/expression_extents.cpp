// expect: hydralm: extents: what meets in an expression must be equally long; cut the views to one length
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Row = hydralm::RowView<const float, 8>;
#else
using Row = hydralm::RowView<const float, 7>;
#endif

void add(hydralm::RowView<float, 8> y, Row x) { out(y) += x; }
