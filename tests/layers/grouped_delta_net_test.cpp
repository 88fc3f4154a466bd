// Gated DeltaNet as published models have it, alone: every option against plain loops over doubles,
// cut anywhere, in both forms, in a batch. (What published models compute: families/.)
#include "hydralm/layers/grouped_delta_net.hpp"

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/layer_case.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;
using Shape = RuntimeGroupedDeltaNetShape;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;

class Reference {
public:
    Reference(Shape shape, const NamedValues& tensors)
        : s_(shape),
          p_(tensors),
          cache_(static_cast<std::size_t>(shape.conv_kernel - 1), zeros(channels())),
          S(zeros(s_.value_heads * s_.key_dim * s_.value_dim)) {}

    Values step(const Values& x) {
        const Index Dk = s_.key_dim, Dv = s_.value_dim, H = s_.value_heads, K = s_.conv_kernel;
        cache_.push_back(product(p_.at("qkv_proj.weight"), x));
        Values qkv = zeros(channels());
        for (Index c = 0; c < channels(); ++c) {
            for (Index j = 0; j < K; ++j)
                at(qkv, c) += at(p_.at("short_conv.conv.weight"), c * K + j) *
                              at(cache_[static_cast<std::size_t>(j)], c);
            at(qkv, c) = silu(at(qkv, c));
        }
        cache_.erase(cache_.begin());
        const Values ab = product(p_.at("ab_proj.weight"), x);
        // a of every key channel, or of every head
        Values a(ab.begin(), ab.end() - H);
        const Index own = s_.decay_rank > 0 ? Dk : 1;
        if (s_.decay_rank > 0) a = product(p_.at("decay_proj.weight"), a);
        Values out;
        for (Index h = 0; h < H; ++h) {
            const Index g = h * s_.key_heads / H;
            const Values q = unit(qkv, g * Dk, 1 / std::sqrt(static_cast<double>(Dk))),
                         k = unit(qkv, (s_.key_heads + g) * Dk, 1);
            const double beta =
                s_.beta_scale * sigmoid(at(ab, static_cast<Index>(ab.size()) - H + h));
            Values alpha = zeros(Dk);
            for (Index j = 0; j < Dk; ++j) {
                const Index i = h * own + j % own;
                at(alpha, j) =
                    std::exp(-std::exp(at(p_.at("decay_log"), h)) *
                             std::log1p(std::exp(at(a, i) + at(p_.at("decay_bias"), i))));
            }
            Values o = zeros(Dv);
            for (Index i = 0; i < Dv; ++i) {
                double* const row = &at(S, (h * Dv + i) * Dk);
                double recalled = 0;
                for (Index j = 0; j < Dk; ++j) recalled += (row[j] *= at(alpha, j)) * at(k, j);
                const double v = at(qkv, 2 * s_.key_heads * Dk + h * Dv + i),
                             u = beta * (v - recalled);
                for (Index j = 0; j < Dk; ++j) row[j] += u * at(k, j);
                for (Index j = 0; j < Dk; ++j) at(o, i) += row[j] * at(q, j);
            }
            o = rms(o, p_.at("o_norm.weight"), s_.epsilon);
            out.insert(out.end(), o.begin(), o.end());
        }
        if (s_.gate != OutputGate::none) {
            Values gate = product(p_.at("gate_proj.weight"),
                                  s_.gate_rank > 0 ? product(p_.at("gate_down.weight"), x) : x);
            if (s_.gate_rank > 0)
                for (std::size_t i = 0; i < gate.size(); ++i) gate[i] += p_.at("gate_bias")[i];
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] *= s_.gate == OutputGate::silu ? silu(gate[i]) : sigmoid(gate[i]);
        }
        return product(p_.at("o_proj.weight"), out);
    }

    // The state by its name in files.
    Values state(const std::string& name) const {
        if (name == "S") return S;
        const auto kept = static_cast<Index>(cache_.size());
        Values cache = zeros(channels() * kept);
        for (Index c = 0; c < channels(); ++c)
            for (Index j = 0; j < kept; ++j)
                at(cache, c * kept + j) = at(cache_[static_cast<std::size_t>(j)], c);
        return cache;
    }

private:
    Index channels() const { return 2 * s_.key_heads * s_.key_dim + s_.value_heads * s_.value_dim; }
    Values unit(const Values& x, Index first, double scale) const {
        Values y(x.begin() + first, x.begin() + first + s_.key_dim);
        double squares = 1e-6;
        for (const double v : y) squares += v * v;
        for (double& v : y) v *= scale / std::sqrt(squares);
        return y;
    }

    Shape s_;
    const NamedValues& p_;
    std::vector<Values> cache_;
    Values S;
};

template <class T>
void check(const Shape& shape, std::uint64_t seed) {
    const GroupedDeltaNet<T> layer(shape);
    const auto tensors = random_tensors(layer, seed);
    constexpr Index N = 37;
    const auto rows = random_rows(N, shape.d_model, seed);
    for (const Index cut : {0, 1, 8, 29}) {
        Reference reference(shape, tensors);
        const Values expected = run_reference(reference, rows);
        const auto where = "shape " + std::to_string(seed) + ", cut at " + std::to_string(cut);
        LayerCase<GroupedDeltaNet<T>> actual(layer, tensors);
        auto out =
            actual.forward(std::span(rows).first(static_cast<std::size_t>(cut)), Form::parallel);
        const auto rest = actual.forward(std::span(rows).subspan(static_cast<std::size_t>(cut)),
                                         cut == 8 ? Form::recurrent : Form::parallel);
        out.insert(out.end(), rest.begin(), rest.end());
        check_close(out, expected, bound<T>, where);
        actual.check_state(reference, bound<T>, where);
    }
    check_batch(layer, tensors, 9, Form::parallel);
    check_batch(layer, tensors, 3, Form::recurrent);
}

}  // namespace

TEST_CASE("grouped DeltaNet: channels that decay by themselves are at most 512", "[layers]") {
    Shape shape{.d_model = 20, .key_heads = 1, .key_dim = 516, .value_heads = 1, .value_dim = 4};
    const GroupedDeltaNet<float> one_decay(shape);
    shape.decay_rank = 4;
    check_error([&] { const GroupedDeltaNet<float> layer(shape); },
                {"key_dim: expected at most 512 with a decay_rank, found 516"});
    shape.key_dim = 512;
    check<float>(shape, 9);
}

TEMPLATE_TEST_CASE("grouped DeltaNet: every option is its reference", "[layers]", float, double) {
    const std::vector<Shape> shapes{
        {.d_model = 20, .key_heads = 2, .key_dim = 12, .value_heads = 6, .value_dim = 20},
        {.d_model = 20,
         .key_heads = 1,
         .key_dim = 16,
         .value_heads = 1,
         .value_dim = 8,
         .conv_kernel = 1,
         .beta_scale = 2.0,
         .epsilon = 1e-3,
         .gate = OutputGate::none},
        {.d_model = 20,
         .key_heads = 3,
         .key_dim = 4,
         .value_heads = 3,
         .value_dim = 36,
         .conv_kernel = 3,
         .gate = OutputGate::sigmoid},
        {.d_model = 20,
         .key_heads = 2,
         .key_dim = 12,
         .value_heads = 6,
         .value_dim = 20,
         .beta_scale = 2.0,
         .gate = OutputGate::sigmoid,
         .decay_rank = 5,
         .gate_rank = 7},
        {.d_model = 20,
         .key_heads = 1,
         .key_dim = 16,
         .value_heads = 2,
         .value_dim = 8,
         .decay_rank = 24},
        {.d_model = 20,
         .key_heads = 2,
         .key_dim = 4,
         .value_heads = 2,
         .value_dim = 12,
         .gate_rank = 3}};
    for (std::size_t i = 0; i < shapes.size(); ++i) check<TestType>(shapes[i], i + 1);
}
