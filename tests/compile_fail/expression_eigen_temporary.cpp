// expect: hydralm: view: the matrix is gone when the line ends; give it a name
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
const Eigen::VectorXf ones = Eigen::VectorXf::Ones(8);
auto x = hydralm::view(ones);
#else
auto x = hydralm::view(Eigen::VectorXf(8));
#endif
