// expect: hydralm: scalars: the outputs must be all float or all double
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Other = float;
#else
using Other = double;
#endif

void clear(hydralm::RowView<float> m, hydralm::RowView<Other> v) {
    out(m, v) = hydralm::values(0, 0);
}
