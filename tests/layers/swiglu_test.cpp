// SwiGLU alone, and on the residual stream behind a norm, against the double reference.
#include "hydralm/layers/swiglu.hpp"

#include "hydralm/layers/residual.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "support/catch.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-5 : 1e-12;

template <Real T>
void sweep() {
    for (const Index d : {1, 7, 20, 33})
        for (const Index hidden : {1, 8, 43}) {
            const SwiGLU<T> layer({d, hidden});
            const auto tensors = random_tensors(layer, 1);
            for (const Index N : {0, 1, 2, 7, 29})
                for (const Write write : {Write::assign, Write::add}) {
                    const auto rows = random_rows(N, d, 1);
                    Values expected;
                    for (const Values& x : rows)
                        for (const double y : reference_swiglu(tensors, x))
                            expected.push_back(y + (write == Write::add ? 3 : 0));
                    LayerCase<SwiGLU<T>> actual(layer, tensors);
                    check_close(actual.forward(rows, Form::parallel, write), expected, bound<T>,
                                "d " + std::to_string(d) + ", h " + std::to_string(hidden) +
                                    ", N " + std::to_string(N));
                }
        }
}

// Residual<RmsNorm, SwiGLU> as a module with the names of a block.
template <Real T>
class NamedResidual {
public:
    using Scalar = T;
    using Inner = Residual<RmsNorm<T>, SwiGLU<T>>;
    using Scratch = typename Inner::Scratch;
    template <class Storage>
    using Parameters = typename Inner::template Parameters<Storage>;
    using State = typename Inner::State;

    NamedResidual(Index d, Index hidden) : inner_(RmsNorm<T>({d, 1e-3}), SwiGLU<T>({d, hidden})) {}
    template <class P, class V>
    void visit(P& p, V& v) const {
        inner_.visit(p, v, "norm2", "mlp");
    }
    template <class S, class V>
    void visit_state(S& s, V& v) const {
        inner_.visit_state(s, v);
    }
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        inner_.visit_scratch(s, v, call);
    }
    void forward(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                 MatrixView<const T> x, MatrixView<T> y, Form form, Write, Arena& arena) const {
        y.eigen() = x.eigen();
        inner_.forward(p, streams, N, y, form, arena);
    }

private:
    Inner inner_;
};

template <Real T>
void check_residual() {
    constexpr Index d = 21;
    const NamedResidual<T> layer(d, 40);
    auto tensors = random_tensors(layer, 2);
    REQUIRE(tensors.size() == 3);
    NamedValues inner{{"w_fused.weight", tensors.at("mlp.w_fused.weight")},
                      {"w_down.weight", tensors.at("mlp.w_down.weight")}};
    auto rows = random_rows(9, d, 2);
    rows[3] = zeros(d);
    Values expected;
    for (const Values& x : rows) {
        const Values y = reference_swiglu(inner, rms(x, tensors.at("norm2.weight"), 1e-3));
        for (Index i = 0; i < d; ++i) expected.push_back(at(x, i) + at(y, i));
    }
    LayerCase<NamedResidual<T>> actual(layer, tensors);
    check_close(actual.forward(rows, Form::parallel), expected, bound<T>, "residual");
}

}  // namespace

TEST_CASE("SwiGLU is its reference", "[swiglu]") {
    sweep<float>();
    sweep<double>();
}

TEST_CASE("A module behind a norm adds to the residual stream", "[residual]") {
    check_residual<float>();
    check_residual<double>();
}
