// expect: hydralm: out: the output must be a view
#include <hydralm/simd/expression.hpp>

void clear(hydralm::RowView<float> y) {
#ifdef HYDRALM_CONTROL
    out(y) = 0;
#else
    out(2 * y) = 0;
#endif
}
