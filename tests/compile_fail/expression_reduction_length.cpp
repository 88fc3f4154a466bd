// expect: hydralm: reduction: the length is not known; give one operand as view(p, n)
#include <hydralm/simd/expression.hpp>

float norm(const float* p, hydralm::Index n) {
#ifdef HYDRALM_CONTROL
    return sum(square(hydralm::view(p, n)));
#else
    (void)n;
    return sum(square(hydralm::in(p)));
#endif
}
