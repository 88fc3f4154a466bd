// expect: hydralm: select: the first argument must be a comparison; write select(x > 0, a, b)
#include <hydralm/simd/expression.hpp>

void positive(hydralm::RowView<float> y, hydralm::RowView<const float> x) {
#ifdef HYDRALM_CONTROL
    out(y) = select(x > 0, x, 0);
#else
    out(y) = select(x, x, 0);
#endif
}
