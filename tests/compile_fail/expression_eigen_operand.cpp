// expect: hydralm: operand: an Eigen object enters an expression through view(); write view(x)
#include <hydralm/simd/expression.hpp>

void activate(hydralm::RowView<float> y, const Eigen::VectorXf& x) {
#ifdef HYDRALM_CONTROL
    out(y) = silu(hydralm::view(x));
#else
    out(y) = hydralm::silu(x);
#endif
}
