// expect: hydralm: select: a comparison is no number; write select(x > 0, a, b)
#include <hydralm/simd/expression.hpp>

void positive(hydralm::RowView<float> y, hydralm::RowView<const float> x) {
#ifdef HYDRALM_CONTROL
    out(y) = select(x > 0, 1, 0);
#else
    out(y) = x > 0;
#endif
}
