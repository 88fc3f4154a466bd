// expect: hydralm: view: an Eigen expression has no memory; evaluate it into a matrix first
#include <hydralm/simd/expression.hpp>

float total(const Eigen::VectorXf& x) {
#ifdef HYDRALM_CONTROL
    const Eigen::VectorXf twice = 2 * x;
    return sum(hydralm::view(twice));
#else
    return sum(hydralm::view(2 * x));
#endif
}
