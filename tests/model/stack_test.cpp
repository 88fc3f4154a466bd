// A small thread is enough: no call keeps large blocks on the stack.
#include "support/catch.hpp"
#include "support/small_model.hpp"
#include "support/small_stack.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Step, prefill and logits of a model on small stacks.
template <class Model>
void check_stack() {
    const Model model = random_model<Model>(1);
    const auto ids = random_tokens(600, model.vocab_size(), 2);
    std::vector<typename Model::Scalar> out(static_cast<std::size_t>(600 * model.vocab_size()));
    const MatrixView<typename Model::Scalar> rows(out.data(), 600, model.vocab_size());
    auto state = model.new_state();
    if constexpr (frames_are_plain) {
        CHECK(stack_bytes([&] { model.step(ids[0], state); }) <= stack_of_step);
        CHECK(stack_bytes([&] { model.prefill(ids, state); }) <= stack_of_prefill);
        CHECK(stack_bytes([&] { model.logits(ids, state, rows); }) <= stack_of_prefill);
    }
}

}  // namespace

TEST_CASE("A step takes 64 KiB of stack, prefill 128", "[stack]") {
    check_stack<HydraLM<small_hybrid>>();
    check_stack<HydraLM<small_hybrid, double>>();
    check_stack<HydraLM<small_remembering>>();
    check_stack<HydraLM<small_remembering, double>>();
    check_stack<HydraLM<wide_remembering>>();
}

#ifdef __GLIBC__
TEST_CASE("Threads of the pool take no more", "[stack]") {
    if constexpr (frames_are_plain)
        on_small_stacks(stack_of_prefill, [] {
            using Model = HydraLM<wide_remembering>;
            const Model model = random_model<Model>(1);
            const auto ids = random_tokens(600, model.vocab_size(), 2);
            auto state = model.new_state();
            for (int i = 0; i < 20; ++i) model.prefill(ids, state);
        });
}
#endif
