// A layer with storage of its own: parameters, the state of one stream, scratch memory, strided
// input and output.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/layers/parameters.hpp"
#include "hydralm/state/stream_memory.hpp"
#include "support/compare.hpp"
#include "support/reference_layers.hpp"

namespace hydralm::test {

// Exact float values, so that float and double layers have the same parameters: weights uniform
// ±1.5/√in, biases and taps ±1/2.
template <class Layer>
NamedValues random_tensors(const Layer& layer, std::uint64_t seed) {
    NamedValues tensors;
    std::uint64_t stream = 0;
    describe_parameters(layer, [&](const ParameterInfo& info) {
        Random random(seed, ++stream);
        const double range =
            info.rank == 2 ? 1.5 / std::sqrt(static_cast<double>(info.cols())) : 0.5;
        Values& values = tensors[std::string(info.name())];
        for (Index i = 0; i < info.size(); ++i)
            values.push_back(
                static_cast<double>(static_cast<float>(random.uniform(-range, range))));
    });
    return tensors;
}

// N tokens of width d, exact floats.
inline std::vector<Values> random_rows(Index N, Index d, std::uint64_t seed) {
    Random random(seed, 1000);
    std::vector<Values> rows(static_cast<std::size_t>(N), zeros(d));
    for (Values& row : rows)
        for (double& x : row) x = static_cast<double>(static_cast<float>(random.normal()));
    return rows;
}

// [N, d] one element off alignment, with three elements between rows that nobody may write.
template <class T>
class StridedRows {
public:
    StridedRows(Index N, Index d, T fill)
        : N_(N), d_(d), data_(static_cast<std::size_t>(N * (d + 3) + 1), fill), fill_(fill) {}
    explicit StridedRows(std::span<const Values> rows, Index d)
        : StridedRows(static_cast<Index>(rows.size()), d, T(0)) {
        for (Index n = 0; n < N_; ++n)
            for (Index i = 0; i < d; ++i)
                view()(n, i) = static_cast<T>(at(rows[static_cast<std::size_t>(n)], i));
    }
    MatrixView<T> view() { return {data_.data() + 1, N_, d_, d_ + 3}; }
    std::vector<T> dense() {
        std::vector<T> values;
        for (Index n = 0; n < N_; ++n)
            values.insert(values.end(), view().row(n), view().row(n) + d_);
        return values;
    }
    bool gaps_untouched() {
        bool same = std::memcmp(data_.data(), &fill_, sizeof(T)) == 0;
        for (Index n = 0; n < N_; ++n)
            for (Index i = 0; i < 3; ++i)
                same = same && std::memcmp(view().row(n) + d_ + i, &fill_, sizeof(T)) == 0;
        return same;
    }

private:
    Index N_, d_;
    std::vector<T> data_;
    T fill_;
};

template <class Layer>
class LayerCase {
public:
    using T = typename Layer::Scalar;

    LayerCase(Layer layer, const NamedValues& tensors, const BankPolicy& policy = {})
        : layer_(layer), weights_(weight_size(layer)), memory_(new_memory(layer, policy)) {
        Index largest = 0;
        describe_parameters(layer, [&](const ParameterInfo& info) {
            largest = std::max(largest, info.size());
            if (d_ == 0) d_ = info.rank == 1 ? info.size() : info.cols();
        });
        AlignedBuffer<T> scratch(largest);
        const auto fill = [&](const ParameterInfo& info, std::span<T> values) {
            const Values& given = tensors.at(std::string(info.name()));
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(given[i]);
        };
        BindPacked<T> bind(weights_.data());
        layer.visit(parameters_, bind);
        StorePacked<T, decltype(fill)> store(weights_.data(), scratch.span(), fill);
        layer.visit(parameters_, store);
    }
    LayerCase(const LayerCase&) = delete;
    LayerCase& operator=(const LayerCase&) = delete;

    // Outputs [N, d], row after row, of a misaligned strided input into a misaligned strided output
    // that starts as NaN, or for Write::add as the number 3.
    std::vector<T> forward(std::span<const Values> rows, Form form, Write write = Write::assign) {
        const auto N = static_cast<Index>(rows.size());
        StridedRows<T> x(rows, d_);
        StridedRows<T> y(N, d_, write == Write::add ? T(3) : std::numeric_limits<T>::quiet_NaN());
        AlignedBuffer<std::byte> workspace(scratch_bytes(layer_, {1, N, form}));
        Arena arena(workspace.span());
        memory_.reserve(N);
        const Stream stream = memory_.stream();
        layer_.forward(parameters_, Streams(&stream, 1), N, x.view(), y.view(), form, write, arena);
        memory_.advance(N);
        CHECK(arena.used() == 0);
        CHECK(y.gaps_untouched());
        return y.dense();
    }

    // The state N rows later, without outputs.
    void advance(std::span<const Values> rows) {
        const auto N = static_cast<Index>(rows.size());
        StridedRows<T> x(rows, d_);
        AlignedBuffer<std::byte> workspace(scratch_bytes(layer_, {.tokens = N}));
        std::fill(workspace.begin(), workspace.end(), std::byte{0xff});  // NaN
        Arena arena(workspace.span());
        memory_.reserve(N);
        const Stream stream = memory_.stream();
        layer_.advance(parameters_, Streams(&stream, 1), N, x.view(), nullptr, arena);
        memory_.advance(N);
        CHECK(arena.used() == 0);
    }

    // The arrays of the state as files have them, against those of a reference.
    template <class Reference>
    void check_state(const Reference& reference, double bound, const std::string& where) {
        layer_.export_state(state(), memory_.position(),
                            [&](const std::string& name, auto shape, const std::vector<T>& values) {
                                Index size = 1;
                                for (const Index extent : shape) size *= extent;
                                CHECK(size == static_cast<Index>(values.size()));
                                check_close(values, reference.state(name), bound,
                                            where + ", state " + name);
                            });
    }

    typename Layer::State state() {
        const Stream stream = memory_.stream();
        return bind_state(layer_, Streams(&stream, 1), 0);
    }
    const Layer& layer() const { return layer_; }
    const auto& parameters() const { return parameters_; }
    StreamMemory& memory() { return memory_; }

private:
    static StreamMemory new_memory(const Layer& layer, const BankPolicy& policy) {
        StateParts parts;
        add_state(layer, parts, policy);
        return {std::move(parts), policy.state};
    }
    static Index weight_size(const Layer& layer) {
        Index n = 0;
        describe_parameters(layer, [&](const ParameterInfo& info) { n += packed_size<T>(info); });
        return n;
    }

    Layer layer_;
    Index d_ = 0;  // the width its first tensor applies to
    AlignedBuffer<std::byte> weights_;
    StreamMemory memory_;
    typename Layer::template Parameters<PackedStorage<T>> parameters_{};
};

// Outputs of a reference for every row, one after the other.
template <class Reference>
Values run_reference(Reference& reference, std::span<const Values> rows) {
    Values all;
    for (const Values& x : rows) {
        const Values y = reference.step(x);
        all.insert(all.end(), y.begin(), y.end());
    }
    return all;
}

// B streams of N tokens, each after its own past, in one call: every row and every state has the
// bits of the stream alone.
template <class Layer>
void check_batch(const Layer& layer, const NamedValues& tensors, Index N, Form form) {
    using T = typename Layer::Scalar;
    const Index d = layer.shape().d_model;
    const std::array<Index, 3> pasts{0, 5, 17};
    std::vector<T> alone;
    std::vector<StreamMemory> before, after;
    std::vector<Values> input;
    for (const Index past : pasts) {
        LayerCase<Layer> one(layer, tensors);
        const auto rows = random_rows(past + N, d, static_cast<std::uint64_t>(past));
        one.forward(std::span(rows).first(static_cast<std::size_t>(past)), form);
        before.push_back(one.memory());
        const auto y = one.forward(std::span(rows).subspan(static_cast<std::size_t>(past)), form);
        after.push_back(one.memory());
        alone.insert(alone.end(), y.begin(), y.end());
        input.insert(input.end(), rows.begin() + past, rows.end());
    }
    const LayerCase<Layer> all(layer, tensors);
    std::vector<Stream> streams;
    for (StreamMemory& memory : before) {
        memory.reserve(N);
        streams.push_back(memory.stream());
    }
    const auto B = static_cast<Index>(streams.size());
    StridedRows<T> x(input, d), y(B * N, d, std::numeric_limits<T>::quiet_NaN());
    AlignedBuffer<std::byte> workspace(scratch_bytes(layer, {B, N, form}));
    Arena arena(workspace.span());
    layer.forward(all.parameters(), Streams(streams.data(), B), N, x.view(), y.view(), form,
                  Write::assign, arena);
    CHECK(same_bits(y.dense(), alone));
    for (std::size_t b = 0; b < pasts.size(); ++b) {
        before[b].advance(N);
        CHECK(same_bits(before[b].bytes(), after[b].bytes()));
        CHECK(before[b].bank_bytes() == after[b].bank_bytes());
    }
}

// Attention to the whole past with the chunks that BankPolicy::sparse says, of C tokens each: all
// of them are the past, bit for bit; fewer are not, and the same in every cut of a text and every
// format, in a fork, and whatever comes later. open: groups of chunks that are looked into, fewer
// than there are; 0: all.
template <Index C, class Layer>
void check_sparse(const Layer& layer, const NamedValues& tensors, BankFormat format,
                  Index chunks = 25, Index open = 0) {
    using T = typename Layer::Scalar;
    const Index N = chunks * C + 3, all_open = open > 0 ? most_open_groups : 0;
    auto rows = random_rows(N, layer.d_model(), 21);
    const auto run = [&](const SparsePast& sparse, Index groups, Index piece, Index fork = 0) {
        LayerCase<Layer> one(layer, tensors,
                             {.format = format, .open_groups = groups, .sparse = sparse});
        std::vector<T> all;
        for (Index first = 0; first < N; first += piece) {
            const auto some = one.forward(
                std::span(rows).subspan(static_cast<std::size_t>(first),
                                        static_cast<std::size_t>(std::min(piece, N - first))),
                piece == 1 ? Form::recurrent : Form::parallel);
            all.insert(all.end(), some.begin(), some.end());
            if (first != fork) continue;
            const StreamMemory before = one.memory();  // goes another way, and comes back
            one.forward(std::span(rows).first(static_cast<std::size_t>(2 * C)), Form::parallel);
            one.memory() = before;
        }
        return all;
    };
    INFO(name(format) << ", " << chunks << " chunks, " << open << " groups open");
    const auto full = run({}, 0, N);
    CHECK(same_bits(run({.chunks = chunks, .recent = 0}, all_open, N), full));
    CHECK(same_bits(run({.chunks = chunks - 24, .recent = 24}, all_open, 37), full));
    const SparsePast sparse{.chunks = 2, .recent = 1};
    const auto few = run(sparse, open, N);
    CHECK_FALSE(same_bits(few, full));
    if (open > 0) CHECK_FALSE(same_bits(few, run(sparse, all_open, N)));
    for (const Index piece : {Index{1}, Index{5}, C, Index{37}})
        CHECK(same_bits(run(sparse, open, piece, 4 * piece), few));
    const Index kept = (chunks - 5) * C + 1;
    for (auto row = rows.begin() + kept; row != rows.end(); ++row)
        for (double& x : *row) x += 100;
    const auto end = static_cast<std::size_t>(kept * layer.d_model());
    const auto other = run(sparse, open, N);
    CHECK(same_bits(std::span(other).first(end), std::span(few).first(end)));
}

// advance leaves the state that forward leaves, bit for bit.
template <class Layer>
void check_advance(const Layer& layer, const NamedValues& tensors, const BankPolicy& policy = {}) {
    for (const Index past : {0, 5})
        for (const Index N : {1, 9, 40}) {
            const auto rows = random_rows(past + N, layer.shape().d_model, 9);
            const auto before = std::span(rows).first(static_cast<std::size_t>(past)),
                       after = std::span(rows).subspan(static_cast<std::size_t>(past));
            LayerCase<Layer> whole(layer, tensors, policy), silent(layer, tensors, policy);
            for (auto* one : {&whole, &silent}) one->forward(before, Form::parallel);
            whole.forward(after, Form::parallel);
            silent.advance(after);
            INFO(N << " tokens after " << past);
            CHECK(same_bits(silent.memory().bytes(), whole.memory().bytes()));
            CHECK(silent.memory().bank_bytes() == whole.memory().bank_bytes());
        }
}

}  // namespace hydralm::test
