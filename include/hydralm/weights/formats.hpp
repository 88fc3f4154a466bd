// What the weights of a model are kept in: a policy from a matrix that may be small to its format.
//
// Matrix<T>: the packed matrix (packed_matrix.hpp, bf16_matrix.hpp) of a model of scalar T. Gates,
// convolutions, norms, biases and tables stay in the scalar under every policy.
#pragma once

#include <type_traits>

#include "hydralm/weights/any_matrix.hpp"

namespace HYDRALM_NAMESPACE::weights {

// The scalar of the model.
struct Float {
    template <Real T>
    using Matrix = PackedMatrix<T>;
};

namespace detail {

template <Real T>
struct Bf16Of {
    static_assert(std::is_same_v<T, float>,
                  "hydralm: weights: BF16 must be in a model of float; make its scalar float");
    using Type = Bf16Matrix;
};

}  // namespace detail

// bfloat16, 16 bits a weight; sums in float.
struct BF16 {
    template <Real T>
    using Matrix = typename detail::Bf16Of<T>::Type;
};

// Whether P is such a policy, for models of scalar T.
template <class P, class T>
concept Policy = requires { typename P::template Matrix<T>; };

// Known when the program runs: matrices carry their format.
struct Any {
    template <Real T>
    using Matrix = AnyMatrix<T>;
};

}  // namespace HYDRALM_NAMESPACE::weights
