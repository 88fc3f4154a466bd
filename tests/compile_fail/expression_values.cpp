// expect: hydralm: out: several outputs take as many expressions; write out(a, b) = values(x, y)
#include <hydralm/simd/expression.hpp>

void step(hydralm::RowView<float> m, hydralm::RowView<float> v, hydralm::RowView<const float> g) {
#ifdef HYDRALM_CONTROL
    out(m, v) = values(m + g, v + g * g);
#else
    out(m, v) = m + g;
#endif
}
