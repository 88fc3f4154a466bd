// expect: hydralm: out: several outputs take =; write out(a, b) = values(a + x, b + y)
#include <hydralm/simd/expression.hpp>

void add(hydralm::RowView<float> m, hydralm::RowView<float> v, hydralm::RowView<const float> g) {
#ifdef HYDRALM_CONTROL
    out(m, v) = values(m + g, v + g);
#else
    out(m, v) += g;
#endif
}
