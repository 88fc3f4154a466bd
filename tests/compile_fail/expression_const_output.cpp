// expect: hydralm: out: the output's elements are const; give out() a view of what may be written
#include <hydralm/simd/expression.hpp>

#ifdef HYDRALM_CONTROL
using Element = float;
#else
using Element = const float;
#endif

void clear(hydralm::RowView<Element> y) { out(y) = 0; }
