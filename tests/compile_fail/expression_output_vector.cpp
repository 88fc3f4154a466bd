// expect: hydralm: out: the output must be a view; vectors, arrays and Eigen objects enter
#include <hydralm/simd/expression.hpp>
#include <vector>

void clear(std::vector<float>& y) {
#ifdef HYDRALM_CONTROL
    out(hydralm::view(y)) = 0;
#else
    hydralm::out(y) = 0;
#endif
}
