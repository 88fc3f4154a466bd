// kernel delta_rule: the gated delta rule on tensors from a file, in the form that is asked for.
#include <hydralm/io.hpp>
#include <hydralm/kernels/delta_rule/delta_rule.hpp>

#include <cmath>
#include <vector>

#include "options.hpp"
#include "with_scalar.hpp"
#include "with_size.hpp"

namespace {

using hydralm::Index;
using HeadDims = hydralm::CommonHeadDims;
using Blocks = hydralm::Sizes<16, 32, 64>;  // of --chunk

template <class T>
struct Inputs {
    Index H = 0, N = 0, D = 0;
    std::vector<T> q, k, v, log_decay, beta, state;  // state [H, Dk, Dv]
};

template <class T>
std::vector<T> read(const hydralm::StoredTensor& tensor, std::vector<Index> shape) {
    tensor.expect_shape(shape);
    std::vector<T> values(static_cast<std::size_t>(tensor.size()));
    tensor.read(std::span<T>(values));
    return values;
}

template <class T>
Inputs<T> read_inputs(const hydralm::SafetensorsFile& file, const std::string& path) {
    const auto& shape = file.tensor("q").shape();
    Inputs<T> in;
    in.H = shape[0];
    in.N = shape[1];
    in.D = shape[2];
    in.q = read<T>(file.tensor("q"), {in.H, in.N, in.D});
    in.k = read<T>(file.tensor("k"), {in.H, in.N, in.D});
    in.v = read<T>(file.tensor("v"), {in.H, in.N, in.D});
    in.beta = read<T>(file.tensor("beta"), {in.H, in.N});
    for (const double alpha : read<double>(file.tensor("alpha"), {in.H, in.N})) {
        if (!(alpha >= 0.0 && alpha <= 1.0))
            throw hydralm::Error({.file = path,
                                  .field = "alpha",
                                  .expected = "values in [0, 1]",
                                  .found = std::to_string(alpha),
                                  .fix = "alpha is a decay factor"});
        in.log_decay.push_back(static_cast<T>(std::log(alpha)));
    }
    in.state.assign(static_cast<std::size_t>(in.H * in.D * in.D), T(0));
    if (const auto* tensor = file.find("initial_state")) {
        const auto initial = read<T>(*tensor, {in.H, in.D, in.D});
        for (Index h = 0; h < in.H; ++h)
            for (Index i = 0; i < in.D; ++i)
                for (Index j = 0; j < in.D; ++j)
                    in.state[static_cast<std::size_t>((h * in.D + j) * in.D + i)] =
                        initial[static_cast<std::size_t>((h * in.D + i) * in.D + j)];
    }
    return in;
}

template <Index Block, Index D, class T>
void chunkwise(const hydralm::kernels::GatedDeltaInput<T, D>& input,
               hydralm::MatrixView<T, D> state, hydralm::MatrixView<T, D> out) {
    hydralm::AlignedBuffer<std::byte> scratch(
        hydralm::kernels::gated_delta_workspace_bytes<T, D>(Block));
    hydralm::Arena arena(scratch.span());
    hydralm::kernels::gated_delta_chunkwise<Block>(input, state, out, Block, arena);
}

template <Index D, class T>
void run(const Options& o, Inputs<T> in) {
    std::vector<T> out(in.v.size());
    for (Index h = 0; h < in.H; ++h) {
        const Index rows = h * in.N;
        const hydralm::kernels::GatedDeltaInput<T, D> input{{in.q.data() + rows * D, in.N},
                                                            {in.k.data() + rows * D, in.N},
                                                            {in.v.data() + rows * D, in.N},
                                                            {in.log_decay.data() + rows, in.N},
                                                            {in.beta.data() + rows, in.N}};
        const hydralm::MatrixView<T, D> state(in.state.data() + h * D * D, D),
            result(out.data() + rows * D, in.N);
        if (o.form == "reference") hydralm::kernels::gated_delta_reference(input, state, result);
        else if (o.form == "recurrent")
            hydralm::kernels::gated_delta_recurrent(input, state, result);
        else
            with_size(Blocks{}, o.chunk == 0 ? 16 : o.chunk, [&](auto block) {
                if constexpr (block > 0) chunkwise<block>(input, state, result);
            });
    }
    std::vector<T> final_state(in.state.size());
    for (Index h = 0; h < in.H; ++h)
        for (Index i = 0; i < D; ++i)
            for (Index j = 0; j < D; ++j)
                final_state[static_cast<std::size_t>((h * D + i) * D + j)] =
                    in.state[static_cast<std::size_t>((h * D + j) * D + i)];
    constexpr hydralm::DType dtype = sizeof(T) == 4 ? hydralm::DType::f32 : hydralm::DType::f64;
    hydralm::SafetensorsWriter writer(
        o.out, {{"out", {in.H, in.N, D}, dtype}, {"final_state", {in.H, D, D}, dtype}});
    writer.write("out", std::span<const T>(out));
    writer.write("final_state", std::span<const T>(final_state));
    writer.commit();
}

template <class T>
void run_delta_rule(const Options& o) {
    const hydralm::SafetensorsFile file(o.in);
    const auto& shape = file.tensor("q").shape();
    if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1)
        throw hydralm::Error({.file = o.in,
                              .field = "q",
                              .expected = "[H,N,D] with at least one head and token",
                              .found = hydralm::shape_text(shape),
                              .fix = "give every head N tokens of D values"});
    with_size(HeadDims{}, shape[2], [&](auto head_dim) {
        if constexpr (head_dim > 0) run<head_dim>(o, read_inputs<T>(file, o.in));
        else
            throw hydralm::Error({.file = o.in,
                                  .field = "q",
                                  .expected = "a head dimension of " + listed(HeadDims{}),
                                  .found = std::to_string(shape[2]),
                                  .fix = "pad the head with zeros"});
    });
}

}  // namespace

void delta_rule(const Options& o) {
    with_scalar(o.scalar, [&]<class T>(T) { run_delta_rule<T>(o); });
}
