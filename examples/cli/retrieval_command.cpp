// kernel retrieval: one retrieval mixer on tensors from a file, in the form that is asked for.
#include <hydralm/io.hpp>
#include <hydralm/layers/retrieval_attention_backward.hpp>
#include <hydralm/model/standalone.hpp>

#include <map>
#include <vector>

#include "options.hpp"
#include "with_scalar.hpp"
#include "with_size.hpp"

namespace {

using hydralm::Index;
using HeadDims = hydralm::CommonHeadDims;
constexpr Index largest_chunk = hydralm::largest_size(hydralm::CommonChunks{});

struct Shape {
    Index N, d, H, D, C, top_k, K;
};

// A number of the metadata, in [1, most].
Index number(const hydralm::SafetensorsFile& file, const std::string& path, const char* field,
             Index most) {
    const auto found = file.metadata().find(field);
    const std::string text = found == file.metadata().end() ? "nothing" : found->second;
    if (text.empty() || text.size() > 7 ||
        text.find_first_not_of("0123456789") != std::string::npos || std::stol(text) < 1 ||
        std::stol(text) > most)
        throw hydralm::Error({.file = path,
                              .field = std::string("__metadata__.") + field,
                              .expected = "a number in [1, " + std::to_string(most) + "]",
                              .found = text,
                              .fix = "write the mixer's shape to the metadata"});
    return std::stol(text);
}

Shape read_shape(const hydralm::SafetensorsFile& file, const std::string& path) {
    const auto& x = file.tensor("x");
    const auto& taps = file.tensor("short_conv.conv.weight");
    if (x.shape().size() != 2 || taps.shape().size() != 3 || x.size() == 0 || taps.size() == 0)
        throw hydralm::Error(
            {.file = path,
             .field = "x and short_conv.conv.weight",
             .expected = "[N,d] and [3I,1,K], neither empty",
             .found = hydralm::shape_text(x.shape()) + " and " + hydralm::shape_text(taps.shape()),
             .fix = "give one mixer's tensors"});
    const Index N = x.shape()[0], large = 1 << 20, C = number(file, path, "chunk_size", large);
    return {N,
            x.shape()[1],
            number(file, path, "n_heads", large),
            number(file, path, "head_dim", large),
            C,
            number(file, path, "top_k", std::max<Index>(hydralm::ceil_div(N, C), 256)),
            taps.shape()[2]};
}

// A tensor of heads of D rows as one of heads of wide rows, zeros behind: no product changes.
template <class T>
std::vector<T> widen(const std::vector<T>& values, Index heads, Index D, Index wide, Index width) {
    std::vector<T> out(static_cast<std::size_t>(heads * wide * width), T(0));
    for (Index h = 0; h < heads; ++h)
        std::copy_n(values.data() + h * D * width, D * width, out.data() + h * wide * width);
    return out;
}
// The same for columns: [rows, heads·D] to [rows, heads·wide].
template <class T>
std::vector<T> widen_columns(const std::vector<T>& values, Index rows, Index heads, Index D,
                             Index wide) {
    return widen(values, rows * heads, D, wide, 1);
}

template <class T>
std::vector<T> read(const hydralm::SafetensorsFile& file, const std::string& name,
                    std::vector<Index> shape) {
    const auto& tensor = file.tensor(name);
    tensor.expect_shape(shape);
    std::vector<T> values(static_cast<std::size_t>(tensor.size()));
    tensor.read(std::span<T>(values));
    return values;
}

// The mixer's tensors with heads of `wide` instead of D.
template <class T>
std::map<std::string, std::vector<T>, std::less<>> read_tensors(
    const hydralm::SafetensorsFile& file, const Shape& s, Index wide) {
    const Index I = s.H * s.D;
    return {
        {"qkv_proj.weight",
         widen(read<T>(file, "qkv_proj.weight", {3 * I, s.d}), 3 * s.H, s.D, wide, s.d)},
        {"short_conv.conv.weight",
         widen(read<T>(file, "short_conv.conv.weight", {3 * I, 1, s.K}), 3 * s.H, s.D, wide, s.K)},
        {"temperature", read<T>(file, "temperature", {s.H})},
        {"gate.weight", widen(read<T>(file, "gate.weight", {s.H, s.D}), s.H, s.D, wide, 1)},
        {"gate.bias", read<T>(file, "gate.bias", {s.H})},
        {"route_scale", read<T>(file, "route_scale", {s.H})},
        {"local_logit", read<T>(file, "local_logit", {s.H})},
        {"o_proj.weight",
         widen_columns(read<T>(file, "o_proj.weight", {s.d, I}), s.d, s.H, s.D, wide)}};
}

template <class T>
void write(const Options& o, const Shape& s, const std::vector<T>& y,
           const std::vector<std::int64_t>& selected) {
    constexpr hydralm::DType dtype = sizeof(T) == 4 ? hydralm::DType::f32 : hydralm::DType::f64;
    hydralm::SafetensorsWriter writer(
        o.out,
        {{"y", {s.N, s.d}, dtype}, {"selected_chunks", {s.N, s.H, s.top_k}, hydralm::DType::i64}});
    writer.write("y", std::span<const T>(y));
    writer.write("selected_chunks", std::span<const std::int64_t>(selected));
    writer.commit();
}

// Forms prefill and step: the layer, all tokens at once or one by one, by the kernels for the
// largest chunk.
template <class T, Index D>
void run_layer(const Options& o, const hydralm::SafetensorsFile& file, const Shape& s) {
    using Mixer = hydralm::RetrievalAttention<T, D, largest_chunk>;
    const auto tensors = read_tensors<T>(file, s, D);
    const auto x = read<T>(file, "x", {s.N, s.d});
    hydralm::Standalone<Mixer> layer(Mixer({s.d, s.H, s.top_k, s.K, s.C}));
    layer.set_parameters([&](const hydralm::ParameterInfo& info, std::span<T> values) {
        std::ranges::copy(tensors.find(info.name())->second, values.begin());
    });
    const Mixer& mixer = layer.mixer();  // whose tape shows the selection
    const Index piece = o.form == "step" ? 1 : std::max<Index>(1, s.N);
    hydralm::AlignedBuffer<std::byte> tape_memory(hydralm::tape_bytes(mixer, 1, piece)),
        scratch_memory(hydralm::scratch_bytes(mixer, {.tokens = piece, .recorded = true}));
    auto state = layer.new_state();
    std::vector<T> y(x.size());
    std::vector<std::int64_t> selected(static_cast<std::size_t>(s.N * s.H * s.top_k));
    for (Index first = 0; first < s.N; first += piece) {
        hydralm::Arena kept(tape_memory.span()), scratch(scratch_memory.span());
        const auto tape = hydralm::take_tape(mixer, kept, 1, piece);
        state.reserve(piece);
        const hydralm::Stream stream = state.stream();
        mixer.forward(layer.weights(), {&stream, 1}, piece, {x.data() + first * s.d, piece, s.d},
                      {y.data() + first * s.d, piece, s.d}, hydralm::Form::parallel,
                      hydralm::Write::assign, scratch, tape);
        state.advance(piece);
        for (Index h = 0; h < s.H; ++h) {
            const auto selection = mixer.selection(tape, 0, h, piece);
            for (Index n = 0; n < piece; ++n)
                std::copy_n(selection.chunks + n * s.top_k, s.top_k,
                            selected.data() + ((first + n) * s.H + h) * s.top_k);
        }
    }
    write(o, s, y, selected);
}

// y [N, rows of w] = x wᵀ, in plain loops.
template <class T>
std::vector<T> product(const std::vector<T>& x, const std::vector<T>& w, Index N, Index in) {
    const Index out = static_cast<Index>(w.size()) / in;
    std::vector<T> y(static_cast<std::size_t>(N * out), T(0));
    for (Index n = 0; n < N; ++n)
        for (Index i = 0; i < out; ++i)
            for (Index j = 0; j < in; ++j)
                y[static_cast<std::size_t>(n * out + i)] +=
                    x[static_cast<std::size_t>(n * in + j)] *
                    w[static_cast<std::size_t>(i * in + j)];
    return y;
}

// Form reference: the formulas in plain loops, any shape.
template <class T>
void run_reference(const Options& o, const hydralm::SafetensorsFile& file, const Shape& s) {
    const auto p = read_tensors<T>(file, s, s.D);
    const auto parameter = [&](const char* name, Index i) {
        return p.find(name)->second[static_cast<std::size_t>(i)];
    };
    const Index I = s.H * s.D;
    const auto inputs = product(read<T>(file, "x", {s.N, s.d}), p.at("qkv_proj.weight"), s.N, s.d);
    std::vector<T> mixed(inputs.size(), T(0)), out(static_cast<std::size_t>(s.N * I));
    for (Index n = 0; n < s.N; ++n)
        for (Index c = 0; c < 3 * I; ++c)
            for (Index j = std::max<Index>(0, s.K - 1 - n); j < s.K; ++j)
                mixed[static_cast<std::size_t>(n * 3 * I + c)] +=
                    parameter("short_conv.conv.weight", c * s.K + j) *
                    inputs[static_cast<std::size_t>((n - s.K + 1 + j) * 3 * I + c)];
    std::vector<std::int64_t> selected(static_cast<std::size_t>(s.N * s.H * s.top_k));
    for (Index h = 0; h < s.H; ++h) {
        const hydralm::MatrixView<T> all(mixed.data() + h * s.D, s.N, 2 * I + s.D, 3 * I);
        const auto q = all.middle_cols(0, s.D), k = all.middle_cols(I, s.D);
        std::vector<T> gates;
        for (Index n = 0; n < s.N; ++n) {
            T qq(0), kk(0), logit = parameter("gate.bias", h) - T(2);
            for (Index i = 0; i < s.D; ++i) {
                qq += q(n, i) * q(n, i);
                kk += k(n, i) * k(n, i);
            }
            const T floor = static_cast<T>(hydralm::kernels::l2_norm_floor);
            for (Index i = 0; i < s.D; ++i) {
                q(n, i) *= std::exp(parameter("temperature", h)) / std::max(std::sqrt(qq), floor);
                k(n, i) /= std::max(std::sqrt(kk), floor);
                logit += T(8) * parameter("gate.weight", h * s.D + i) * k(n, i);
            }
            gates.push_back(hydralm::simd::sigmoid(logit));
        }
        std::vector<std::int32_t> chunks(static_cast<std::size_t>(s.N * s.top_k));
        hydralm::kernels::retrieval_attention_reference<T>(
            q, k, all.middle_cols(2 * I, s.D), gates.data(), s.C, s.top_k,
            std::exp(parameter("route_scale", h)), parameter("local_logit", h),
            {out.data() + h * s.D, s.N, s.D, I}, {chunks.data(), s.N, s.top_k});
        for (Index n = 0; n < s.N; ++n)
            std::copy_n(chunks.data() + n * s.top_k, s.top_k,
                        selected.data() + (n * s.H + h) * s.top_k);
    }
    write(o, s, product(out, p.at("o_proj.weight"), s.N, I), selected);
}

template <class T>
void run_retrieval(const Options& o) {
    const hydralm::SafetensorsFile file(o.in);
    const Shape s = read_shape(file, o.in);
    if (o.form == "reference") return run_reference<T>(o, file, s);
    const auto refuse = [&](const char* field, Index largest, Index found) {
        throw hydralm::Error({.file = o.in,
                              .field = std::string("__metadata__.") + field,
                              .expected = "at most " + std::to_string(largest),
                              .found = std::to_string(found),
                              .fix = "use --form reference, which takes any shape"});
    };
    if (s.C > largest_chunk) refuse("chunk_size", largest_chunk, s.C);
    with_size(HeadDims{}, hydralm::size_with_room(HeadDims{}, s.D), [&](auto D) {
        if constexpr (D == 0) refuse("head_dim", hydralm::largest_size(HeadDims{}), s.D);
        else run_layer<T, D>(o, file, s);
    });
}

}  // namespace

void retrieval(const Options& o) {
    with_scalar(o.scalar, [&]<class T>(T) { run_retrieval<T>(o); });
}
