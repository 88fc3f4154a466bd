// Training<Module>: the forward pass of a module that remembers, and its gradient.
//
// Specialised beside each module (<module>_backward.hpp), so that inference never sees it. A
// specialisation has
//   Tape                    views of what backward needs and does not compute again
//   tape_bytes(B, N)        arena that record takes for it and does not give back
//   workspace_bytes(B, N)   scratch of record and of backward, given back
//   record(p, streams, N, x, y, write, tape, kept, scratch)
//       Module::forward in the parallel form to rounding; advances the states
//   backward(p, transposed, tape, streams, N, x, dy, dx, gradients, dstates, scratch)
//       x as record read it, streams with the positions it had; dx written, apart from dy;
//       gradients added to; dstates: the layout of the states; in, the gradient of the final
//       states; out, that of the first
// Neither allocates or throws. All sums have a fixed order: the same bits for any number of
// threads.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/layers/transposed_parameters.hpp"
#include "hydralm/state/stream_state.hpp"

namespace HYDRALM_NAMESPACE {

template <class Module>
class Training;

template <class Module>
constexpr Training<Module> training_of(const Module& module) noexcept {
    return Training<Module>(module);
}

namespace detail {

template <Real T>
MatrixView<T> take_matrix(Arena& arena, Index rows, Index cols) noexcept {
    return {arena.take<T>(rows * cols), rows, cols};
}

template <Real T>
void project(MatrixView<const T> x, const kernels::PackedMatrix<T>& w, MatrixView<T> y,
             Write write) noexcept {
    if (write == Write::add) kernels::matmul(x, w, y, kernels::Add{});
    else kernels::matmul(x, w, y, kernels::Assign{});
}

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE
