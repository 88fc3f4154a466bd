// expect: hydralm: acc2: is the sum of a second product; give matmul two weight matrices
// with: -c
#include <hydralm/kernels/matmul/matmul.hpp>

void gate(hydralm::MatrixView<const float> x, const hydralm::weights::PackedMatrix<float>& w,
          hydralm::MatrixView<float> y) {
#ifdef HYDRALM_CONTROL
    hydralm::kernels::matmul(x, w, w, y, silu(hydralm::acc) * hydralm::acc2);
#else
    hydralm::kernels::matmul(x, w, y, silu(hydralm::acc) * hydralm::acc2);
#endif
}
