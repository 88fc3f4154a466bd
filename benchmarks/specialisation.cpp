// One model, of a shape known to the compiler or read at run time: seconds of processor time of a
// token of prefill, a decoded token and a token of training, on one thread, as three numbers.
// scripts/specialisation.py builds this with -DWIDTH=… (the model's type is of that width) and
// without (one program for all of them), and runs the two in turn. Argument: the width.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "hydralm/model/runtime_model.hpp"
#include "hydralm/training.hpp"
#include "random_bytes.hpp"

namespace {

using namespace hydralm;

// D D D S; heads of 32 below a width of 256, of 64 from there.
constexpr HydraConfig shape(int width) {
    return {.vocab_size = 256,
            .d_model = width,
            .n_layers = 4,
            .n_heads = width / (width < 256 ? 32 : 64),
            .swa_window = 128};
}

#ifdef WIDTH
auto make_model(int) { return HydraLM<shape(WIDTH)>(); }
#else
auto make_model(int width) {
    return RuntimeModel<float>(shape(width), Kernels<Sizes<32, 64>, Sizes<>>());
}
#endif

// Processor time of f(), a call: the least of five, each of as many calls as take a tenth of a
// second.
template <class F>
double seconds(const F& f) {
    const auto run = [&](int calls) {
        const std::clock_t start = std::clock();
        for (int i = 0; i < calls; ++i) f();
        return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    };
    int calls = 1;
    while (run(calls) < 0.05) calls *= 2;
    double least = run(2 * calls);
    for (int i = 1; i < 5; ++i) least = std::min(least, run(2 * calls));
    return least / (2 * calls);
}

}  // namespace

int main(int argc, char** argv) {
    set_num_threads(1);
    auto model = make_model(argc > 1 ? std::atoi(argv[1]) : 0);
    initialise(model, 1, InitScheme::fan_in);
    constexpr Index N = 512, streams = 4, length = 128;
    const std::vector<token_id> tokens(N, 65);
    auto state = model.new_state();
    const double prefill = seconds([&] {
        state.reset();
        model.prefill(tokens, state);
    });
    const double decode = seconds([&] { model.step(65, state); });
    TrainerOptions options;
    options.rate = {.peak = 1e-4, .least = 1e-5, .warmup = 0, .total = 1 << 20};
    Trainer<decltype(model)> trainer(model, options);
    benchmarks::RandomBytes source(streams, length);
    const double training = seconds([&] { trainer.step(source); });
    std::printf("%.9g %.9g %.9g\n", prefill / N, decode, training / (streams * length));
}
