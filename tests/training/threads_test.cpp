// Gradients have the same bits for any number of threads, and take no memory.
#include <vector>

#include "hydralm/training/gradients.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/shared_gradients.hpp"
#include "support/small_stack.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// The gradient of B sequences of N tokens that follow N others.
template <HydraConfig config>
void check_threads(Index B, Index N) {
    using Model = HydraLM<config>;
    const auto model = random_model<Model>(1);
    const auto ids = random_tokens(B * N, config.vocab_size, 2),
               labels = random_tokens(B * N, config.vocab_size, 3);
    BatchStates<Model> start(model, B);
    for (Index b = 0; b < B; ++b) {
        auto state = model.new_state();
        model.prefill(slice(ids, b * N, N), state);
        start[b] = state;
    }
    std::vector<float> expected;
    std::vector<StreamMemory> expected_states;
    double expected_loss = 0;
    const int before = num_threads();
    for (const int threads : {1, 2, 3, 7}) {
        set_num_threads(threads);
        INFO(threads << " threads");
        Gradients<Model> gradients(model, B, N);
        gradients.refresh(model);
        BatchStates<Model> states(start);
        const Streams streams = states.streams(N);
        const auto allocations_before = allocations();
        const double loss = gradients.add(model, ids, labels, streams, 0.01).sum;
        const bool has_banks = !start[0].banks().empty();
        CHECK((has_banks || allocations() == allocations_before));
        std::vector<StreamMemory> dstates;  // of the first states, banks included
        for (Index b = 0; b < B; ++b) {
            dstates.push_back(gradients.state_gradients()[b]);
            dstates.back().advance(N - dstates.back().position());
        }
        if (threads == 1) {
            expected.assign(gradients.values().begin(), gradients.values().end());
            expected_states = dstates;
            expected_loss = loss;
        }
        CHECK(loss == expected_loss);
        CHECK(same_bits(gradients.values(), expected));
        for (std::size_t b = 0; b < dstates.size(); ++b)
            CHECK(same_state(dstates[b], expected_states[b]));
    }
    set_num_threads(before);
}

template <HydraConfig config>
void check_stack(Index B, Index N) {
    using Model = HydraLM<config>;
    const auto model = random_model<Model>(1);
    const auto ids = random_tokens(B * N, config.vocab_size, 2);
    BatchStates<Model> states(model, B);
    Gradients<Model> gradients(model, B, N);
    const auto add = [&] {
        gradients.refresh(model);
        gradients.add(model, ids, ids, states.streams(N), 0.01);
    };
    if constexpr (frames_are_plain) CHECK(stack_bytes(add) <= stack_of_training);
}

}  // namespace

TEST_CASE("gradients are the same for any number of threads, and take no memory", "[threads]") {
    check_threads<default_schedule_8l>(3, 150);
}

TEST_CASE("gradients of retrieval are the same for any number of threads", "[threads]") {
    check_threads<wide_remembering>(3, 150);
}

TEST_CASE("gradients take 128 KiB of stack", "[stack]") {
    check_stack<default_schedule_8l>(3, 50);
    check_stack<wide_remembering>(3, 50);
}
