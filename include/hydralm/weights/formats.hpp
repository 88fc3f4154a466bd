// What the weights of a model are kept in: a policy from a matrix that may be small to its format.
//
// Matrix<T>: the packed matrix (packed_matrix.hpp, bf16_matrix.hpp, quantised_matrix.hpp) of a
// model of scalar T. Mlp, where there is one: the policy of the matrices of MLPs. Gates,
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

template <Real T, class Matrix>
struct OfFloat {
    static_assert(std::is_same_v<T, float>,
                  "hydralm: weights: BF16, Q8, Q4 and Mixed must be in a model of float; make its "
                  "scalar float");
    using Type = Matrix;
};

}  // namespace detail

// bfloat16, 16 bits a weight; sums in float.
struct BF16 {
    template <Real T>
    using Matrix = typename detail::OfFloat<T, Bf16Matrix>::Type;
};

// Blocks of 32 (quantised_block.hpp), 8.5 and 4.5 bits a weight; in a product activations have 8
// bits, sums of a block are exact, sums of blocks in float.
struct Q8 {
    template <Real T>
    using Matrix = typename detail::OfFloat<T, Q8Matrix>::Type;
};
struct Q4 {
    template <Real T>
    using Matrix = typename detail::OfFloat<T, Q4Matrix>::Type;
};
// MLPs in 4 bits, all else, embedding and head too, in 8.
struct Mixed : Q8 {
    using Mlp = Q4;
};

namespace detail {

template <class Weights>
struct MlpPolicy {
    using Type = Weights;
};
template <class Weights>
    requires requires { typename Weights::Mlp; }
struct MlpPolicy<Weights> {
    using Type = typename Weights::Mlp;
};

}  // namespace detail

// The policy of the matrices of MLPs under a policy.
template <class Weights>
using MlpWeights = typename detail::MlpPolicy<Weights>::Type;

// Whether P is such a policy, for models of scalar T.
template <class P, class T>
concept Policy = requires { typename P::template Matrix<T>; };

// Known when the program runs: matrices carry their format.
struct Any {
    template <Real T>
    using Matrix = AnyMatrix<T>;
};

}  // namespace HYDRALM_NAMESPACE::weights
