// Many tokens through small models: memory that does not grow, a state that stays finite, and
// logits that at the end are still those of double precision. Prints a table; fails where a
// bound is broken. Argument: how many tokens.
#include <hydralm/hydralm.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

using namespace hydralm;

constexpr Index chunk = 4096;
constexpr std::int64_t most_growth = 1 << 20;  // bytes
constexpr double most_difference = 1e-3;

// The arrays of a state, where they lie.
template <class T>
struct Arrays {
    std::vector<std::span<T>> all;
    void array(T*& values, Index count) {
        all.emplace_back(values, static_cast<std::size_t>(count));
    }
    void array(T*& values, Index rows, Index cols) { array(values, rows * cols); }
};
template <class Model>
auto arrays(typename Model::State& state) {
    Arrays<typename Model::Scalar> found;
    const auto offsets = Model::stack.state_offsets();
    const Stream stream = state.stream();
    Model::stack.for_each([&](const auto& block, auto i) {
        auto part = bind_state(block, Streams(&stream, 1).at(offsets[i]), 0);
        block.visit_state(part, found);
    });
    return found.all;
}

// The same weights, and the same stream, in double.
template <HydraConfig config>
HydraLM<config, double> in_double(const HydraLM<config>& model) {
    std::vector<float> weights;
    model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        weights.insert(weights.end(), values.begin(), values.end());
    });
    HydraLM<config, double> wide;
    auto next = weights.begin();
    wide.set_parameters([&](const ParameterInfo&, std::span<double> values) {
        const auto end = next + static_cast<std::ptrdiff_t>(values.size());
        std::copy(next, end, values.begin());
        next = end;
    });
    return wide;
}
template <HydraConfig config>
auto in_double(const HydraLM<config, double>& wide, typename HydraLM<config>::State& state) {
    auto result = wide.new_state();
    const auto from = arrays<HydraLM<config>>(state);
    const auto to = arrays<HydraLM<config, double>>(result);
    for (std::size_t i = 0; i < from.size(); ++i) std::ranges::copy(from[i], to[i].begin());
    result.advance(state.position());
    return result;
}

template <class Model>
std::vector<typename Model::Scalar> logits(const Model& model, typename Model::State& state,
                                           std::span<const token_id> tokens) {
    constexpr Index V = Model::vocab_size();
    const auto N = static_cast<Index>(tokens.size());
    std::vector<typename Model::Scalar> out(tokens.size() * V, std::nan(""));
    model.logits(tokens, state, {out.data(), N, V});
    return out;
}

// NaN where a value is not finite.
template <class Values>
double largest(const Values& values) {
    double result = 0;
    for (const double x : values) {
        if (!std::isfinite(x)) return std::nan("");
        result = std::max(result, std::abs(x));
    }
    return result;
}

template <HydraConfig config>
bool row(const char* name, std::int64_t count) {
    using Model = HydraLM<config>;
    static_assert(Model::stack.all_states().banks == 0, "a bank grows with the text");
    Model model;
    initialise(model, 1, InitScheme::fan_in);
    StreamingEngine<Model> engine(model);
    Random random(2);
    std::vector<token_id> tokens(chunk);
    const auto next_chunk = [&] {
        for (token_id& token : tokens)
            token = static_cast<token_id>(random.below(config.vocab_size));
    };
    for (std::int64_t fed = 0; fed + chunk < count; fed += chunk) {
        next_chunk();
        engine.feed(tokens);
    }
    const StreamReport report = engine.report();
    const std::int64_t grown = report.resident_bytes_peak - report.resident_bytes_first;

    const auto wide = in_double(model);
    auto wide_state = in_double(wide, engine.state());
    next_chunk();
    const auto found = logits(model, engine.state(), tokens);
    const auto expected = logits(wide, wide_state, tokens);
    std::vector<double> apart;
    for (std::size_t i = 0; i < found.size(); ++i) apart.push_back(found[i] - expected[i]);
    const double difference = largest(apart);
    std::vector<float> carried;
    for (const auto values : arrays<Model>(engine.state()))
        carried.insert(carried.end(), values.begin(), values.end());
    const double in_state = largest(carried);

    std::printf("| %s | %lld | %td | %lld | %lld | %.3g | %.3g | %.1e |\n", name,
                static_cast<long long>(engine.state().position()), report.state_bytes,
                static_cast<long long>(report.resident_bytes_first), static_cast<long long>(grown),
                in_state, largest(expected), difference);
    std::fflush(stdout);
    return grown <= most_growth && std::isfinite(in_state) && difference <= most_difference;
}

}  // namespace

int main(int argc, char** argv) {
    const std::int64_t count = argc > 1 ? std::atoll(argv[1]) : 10'000'000;
    std::printf(
        "| model | tokens | state, bytes | resident after chunk 2 | grown since "
        "| largest number in the state | largest logit | difference from double |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|\n");
    const bool tiny = row<presets::tiny>("`presets::tiny`: D S, d 64, window 256", count);
    const bool small = row<presets::small>("`presets::small`: D D D S, d 128, window 128", count);
    if (tiny && small) return 0;
    std::fprintf(stderr, "long run: a bound is broken\n");
    return 1;
}
