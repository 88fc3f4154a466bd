// expect: hydralm: operand: a vector or an array enters an expression through view(); write view(x)
#include <array>
#include <hydralm/simd/expression.hpp>

void activate(hydralm::RowView<float> y, const std::array<float, 8>& x) {
#ifdef HYDRALM_CONTROL
    out(y) = silu(y) * hydralm::view(x);
#else
    out(y) = silu(y) * x;
#endif
}
