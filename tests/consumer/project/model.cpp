// What needs no file: a model, its stream, its threads.
#include <hydralm/hydralm.hpp>

#include <cmath>

int main() {
    constexpr hydralm::HydraConfig config{
        .vocab_size = 5, .d_model = 8, .n_layers = 1, .n_heads = 1, .mlp_multiple_of = 8};
    hydralm::set_num_threads(2);
    hydralm::HydraLM<config> model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    auto state = model.new_state();
    const float logit = model.step(3, state)[0];
    return std::isfinite(logit) && logit != 0 ? 0 : 1;
}
