// expect: hydralm: acc: is a sum of a product; use it in the epilogue of matmul
#include <hydralm/kernels/matmul/epilogue.hpp>

void clear(hydralm::RowView<float> y) {
#ifdef HYDRALM_CONTROL
    out(y) = y * 2;
#else
    out(y) = y * hydralm::acc;
#endif
}
