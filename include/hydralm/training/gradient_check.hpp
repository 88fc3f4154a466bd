// check_gradient: a layer's backward against central differences of its forward, in one call.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/model/initialise.hpp"
#include "hydralm/training/layer_gradients.hpp"

namespace HYDRALM_NAMESPACE {

struct GradientCheck {
    // The largest |backward − difference| over the largest difference of the same tensor.
    double error = 0.0;
    // Where: a parameter's name, "x" or "state"; "y added" and "y step by step": what forward with
    // Write::add adds, and what it computes in the recurrent form, against y.
    std::string tensor;
};

struct GradientCheckOptions {
    Index streams = 2;
    Index tokens = 9;
    Index past = 5;      // tokens that every stream was fed before
    Index most = 40;     // elements of each tensor that are tried, at random places
    double step = 1e-5;  // h of (f(w + h) − f(w − h)) / 2h, and of its half: the error is O(h⁴)
    std::uint64_t seed = 1;
};

namespace detail {

template <class Mixer>
class GradientChecker {
public:
    GradientChecker(const Mixer& mixer, const GradientCheckOptions& o)
        : o_(o), layer_(mixer), d_(mixer.d_model()), random_(o.seed, 7) {
        initialise(layer_, o.seed, InitScheme::fan_in);
        layer_.get_parameters([&](const ParameterInfo& info, std::span<const double> values) {
            names_.emplace_back(info.name());
            tensors_.emplace_back(values.begin(), values.end());
            for (double& value : tensors_.back()) value += 0.1 * random_.normal();
        });
        set_weights();
        past_ = numbers(o.streams * o.past * d_);
        x_ = numbers(o.streams * o.tokens * d_);
        dy_ = numbers(o.streams * o.tokens * d_);
    }

    GradientCheck run() {
        LayerGradients<Mixer> gradients(layer_, o_.streams, o_.tokens);
        before_ = fed();
        const bool bounded = before_.front().banks().empty();  // all of the state is arrays
        for (std::size_t b = 0; b < before_.size(); ++b) gradients.states()[b] = before_[b];
        std::vector<double> y(x_.size()), dx(x_.size());
        gradients.forward(rows(x_), {y.data(), o_.streams * o_.tokens, d_});
        const auto begun = numbers(static_cast<Index>(gradients.values().size()));
        std::copy(begun.begin(), begun.end(), gradients.values().begin());
        if (bounded) {
            const auto final_state = numbers(static_cast<Index>(bytes(gradients.states()[0])));
            final_ = final_state;
            for (StreamMemory& state : gradients.state_gradients())
                std::copy(final_.begin(), final_.end(), values(state).begin());
        }
        gradients.backward(rows(x_), rows(dy_), {dx.data(), o_.streams * o_.tokens, d_});

        for (std::size_t i = 0; i < begun.size(); ++i) gradients.values()[i] -= begun[i];

        GradientCheck check;
        compare_outputs(check, y);
        const double* next = gradients.values().data();
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            compare(check, names_[i], tensors_[i], {next, tensors_[i].size()},
                    [&] { set_weights(); });
            next += tensors_[i].size();
        }
        compare(check, "x", x_, dx, [] {});
        if (bounded)
            for (std::size_t b = 0; b < before_.size(); ++b)
                compare(check, "state", values(before_[b]), values(gradients.state_gradients()[b]),
                        [] {});
        return check;
    }

private:
    std::vector<double> numbers(Index count) {
        std::vector<double> values(static_cast<std::size_t>(count));
        for (double& value : values) value = random_.normal();
        return values;
    }
    static Index bytes(const StreamMemory& state) {
        return static_cast<Index>(state.bytes().size() / sizeof(double));
    }
    static std::span<double> values(StreamMemory& state) {
        return {reinterpret_cast<double*>(state.bytes().data()),
                static_cast<std::size_t>(bytes(state))};
    }
    MatrixView<const double> rows(const std::vector<double>& values) const {
        return {values.data(), static_cast<Index>(values.size()) / d_, d_};
    }
    void set_weights() {
        std::size_t i = 0;
        layer_.set_parameters([&](const ParameterInfo&, std::span<double> values) {
            std::copy(tensors_[i].begin(), tensors_[i].end(), values.begin());
            ++i;
        });
    }
    // The streams behind their past.
    std::vector<StreamMemory> fed() {
        std::vector<StreamMemory> states(static_cast<std::size_t>(o_.streams), layer_.new_memory());
        std::vector<double> unused(past_.size());
        if (o_.past > 0) call(states, rows(past_), o_.past, unused);
        return states;
    }
    void call(std::vector<StreamMemory>& states, MatrixView<const double> x, Index N,
              std::vector<double>& y, Form form = Form::parallel, Write write = Write::assign) {
        std::vector<Stream> streams;
        for (StreamMemory& state : states) {
            state.reserve(N);
            streams.push_back(state.stream());
        }
        AlignedBuffer<std::byte> memory(
            scratch_bytes(layer_.mixer(), {.streams = o_.streams, .tokens = N, .form = form}));
        Arena arena(memory.span());
        layer_.mixer().forward(layer_.weights(), {streams.data(), o_.streams}, N, x,
                               {y.data(), o_.streams * N, d_}, form, write, arena);
        for (StreamMemory& state : states) state.advance(N);
    }
    // The other ways of forward against y.
    void compare_outputs(GradientCheck& check, const std::vector<double>& y) {
        const auto compare = [&](const char* name, Form form, Write write,
                                 const std::vector<double>& before) {
            std::vector<StreamMemory> states = before_;
            std::vector<double> out = before;
            call(states, rows(x_), o_.tokens, out, form, write);
            double largest = 1e-12, error = 0.0;
            for (std::size_t i = 0; i < y.size(); ++i) {
                const double off = std::abs(out[i] - before[i] * (write == Write::add) - y[i]);
                largest = std::max(largest, std::abs(y[i]));
                error = std::isfinite(off) ? std::max(error, off)
                                           : std::numeric_limits<double>::infinity();
            }
            if (error / largest > check.error || check.tensor.empty())
                check = {error / largest, name};
        };
        compare("y added", Form::parallel, Write::add, dy_);
        compare("y step by step", Form::recurrent, Write::assign, dy_);
    }
    // Σ dy ⊙ y + Σ dstate ⊙ final state, the states before the tokens held fixed.
    double objective() {
        std::vector<StreamMemory> states = before_;
        std::vector<double> y(x_.size());
        call(states, rows(x_), o_.tokens, y);
        double sum = 0.0;
        for (std::size_t i = 0; i < y.size(); ++i) sum += dy_[i] * y[i];
        for (StreamMemory& state : states)
            for (std::size_t i = 0; i < final_.size(); ++i) sum += final_[i] * values(state)[i];
        return sum;
    }
    // Of one element: two central differences, of which h² is taken away.
    template <class Changed>
    double difference(double& element, const Changed& changed) {
        const double at = element;
        const auto slope = [&](double h) {
            element = at + h;
            changed();
            const double above = objective();
            element = at - h;
            changed();
            return (above - objective()) / (2.0 * h);
        };
        const double coarse = slope(o_.step), fine = slope(0.5 * o_.step);
        element = at;
        changed();
        return fine + (fine - coarse) / 3.0;
    }
    template <class Changed>
    void compare(GradientCheck& check, const std::string& name, std::span<double> elements,
                 std::span<const double> gradient, const Changed& changed) {
        double largest = 1e-12, error = 0.0;
        const auto count = static_cast<Index>(elements.size());
        for (Index i = 0; i < std::min(count, o_.most); ++i) {
            const auto at = static_cast<std::size_t>(
                count <= o_.most
                    ? i
                    : static_cast<Index>(random_.below(static_cast<std::uint64_t>(count))));
            const double expected = difference(elements[at], changed);
            largest = std::max(largest, std::abs(expected));
            const double off = std::abs(gradient[at] - expected);
            error =
                std::isfinite(off) ? std::max(error, off) : std::numeric_limits<double>::infinity();
        }
        if (error / largest > check.error || check.tensor.empty()) check = {error / largest, name};
    }

    GradientCheckOptions o_;
    Standalone<Mixer> layer_;
    Index d_;
    Random random_;
    std::vector<std::string> names_;
    std::vector<std::vector<double>> tensors_;
    std::vector<double> past_, x_, dy_, final_;
    std::vector<StreamMemory> before_;
};

}  // namespace detail

// How far a layer's backward is from central differences of its forward: with respect to every
// parameter, the input, and, of a layer whose state is arrays, the state before, for a random
// gradient of output and final state, added to gradients that are not zero. And how far forward's
// other ways are from it. Weights by the layer's law, moved a little at random. A right layer has
// an error of 1e-9 to 1e-7. Scalar: double. Cost: 4 forwards an element tried.
template <class Mixer>
GradientCheck check_gradient(const Mixer& mixer = {}, const GradientCheckOptions& options = {}) {
    static_assert(std::is_same_v<typename Mixer::Scalar, double>,
                  "hydralm: gradient check: must be made in double; give the layer of double");
    return detail::GradientChecker<Mixer>(mixer, options).run();
}

}  // namespace HYDRALM_NAMESPACE
