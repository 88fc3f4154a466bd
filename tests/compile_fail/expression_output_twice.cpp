// expect: hydralm: out: only the left side is an output; write out(y) = x
#include <hydralm/simd/expression.hpp>

void copy(hydralm::RowView<float> y, hydralm::RowView<float> x) {
#ifdef HYDRALM_CONTROL
    out(y) = x;
#else
    out(y) = out(x);
#endif
}
