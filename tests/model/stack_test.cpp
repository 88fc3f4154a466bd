// A small thread is enough: no call keeps large blocks on the stack.
#include "support/catch.hpp"
#include "support/runtime_blocks.hpp"
#include "support/small_model.hpp"
#include "support/small_stack.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// MLPs so wide that quantised rows of a prefill take the most that they may.
constexpr HydraConfig wide_mlp{.vocab_size = 53,
                               .d_model = 24,
                               .n_layers = 4,
                               .n_heads = 2,
                               .mlp_mult = 40,
                               .swa_window = 24,
                               .swa_every = 4,
                               .retrieval_every = 3,
                               .retrieval_chunk_size = 13,
                               .retrieval_top_k = 4};
using Small = HydraLM<wide_mlp, float, weights::Mixed>;

// Step, prefill and logits of a model on small stacks.
template <class Model>
void check_stack(Model model) {
    initialise(model, 1, InitScheme::fan_in);
    const auto V = static_cast<int>(model.vocab_size());
    const auto ids = random_tokens(600, V, 2);
    std::vector<typename Model::Scalar> out(static_cast<std::size_t>(600 * V));
    const MatrixView<typename Model::Scalar> rows(out.data(), 600, V);
    auto state = model.new_state();
    if constexpr (frames_are_plain) {
        CHECK(stack_bytes([&] { model.step(ids[0], state); }) <= stack_of_step);
        CHECK(stack_bytes([&] { model.prefill(ids, state); }) <= stack_of_prefill);
        CHECK(stack_bytes([&] { model.logits(ids, state, rows); }) <= stack_of_prefill);
    }
}

template <class Weights>
void check_runtime_stack() {
    check_stack(RuntimeModel<float>(wide_mlp, SmallKernels{}, format_choice<float>(Weights{})));
}

// Prefills by all threads of the pool.
template <class Model>
void prefill_together() {
    const Model model = random_model<Model>(1);
    const auto ids = random_tokens(600, model.vocab_size(), 2);
    auto state = model.new_state();
    for (int i = 0; i < 20; ++i) model.prefill(ids, state);
}

}  // namespace

TEST_CASE("A step takes 64 KiB of stack, prefill 128", "[stack]") {
    check_stack(HydraLM<small_hybrid>());
    check_stack(HydraLM<small_hybrid, double>());
    check_stack(HydraLM<small_remembering>());
    check_stack(HydraLM<small_remembering, double>());
    check_stack(HydraLM<wide_remembering>());
    check_stack(Small());
}

TEST_CASE("A run-time model takes no more in any format", "[stack]") {
    check_runtime_stack<weights::Float>();
    check_runtime_stack<weights::BF16>();
    check_runtime_stack<weights::Q8>();
    check_runtime_stack<weights::Q4>();
    check_runtime_stack<weights::Mixed>();
    check_stack(RuntimeModel<double>(wide_mlp, SmallKernels{}));
}

#ifdef __GLIBC__
TEST_CASE("Threads of the pool take no more", "[stack]") {
    if constexpr (frames_are_plain)
        on_small_stacks(stack_of_prefill, [] {
            prefill_together<HydraLM<wide_remembering>>();
            prefill_together<Small>();
        });
}
#endif
