// Tokens fed with a history and taken back: the state of every count that may be kept.
#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

template <class Model>
void check_rollback(Index past, Index N, const BankPolicy& policy = {}) {
    const auto model = random_model<Model>(1);
    const auto tokens = random_tokens(past + N, Model::vocab_size(), 2);
    auto start = model.new_state(Model::prefill_tile, policy);
    if (past > 0) model.prefill(slice(tokens, 0, past), start);
    AlignedBuffer<std::byte> memory(Model::stack.history_bytes(N)),
        workspace(Model::workspace_bytes(1, N, Form::recurrent));
    for (Index kept = 0; kept <= N; ++kept) {
        auto expected = start;
        for (Index n = 0; n < kept; ++n)
            model.step(tokens[static_cast<std::size_t>(past + n)], expected);
        auto state = start;
        state.reserve(N);
        Arena history(memory.span()), arena(workspace.span());
        Stream stream = state.stream();
        stream.history = &history;
        model.forward(tokens.data() + past, Streams(&stream, 1), N, Form::recurrent, arena);
        CHECK(history.used() == Model::stack.history_bytes(N));
        Arena again(memory.span());
        Model::stack.rollback(stream, N, kept, again);
        state.advance(kept);
        // What lies behind the position in a bank is never read: compared is what a file holds,
        // and what comes next.
        CHECK(same_bits(state.bytes(), expected.bytes()));
        const auto more = random_tokens(40, Model::vocab_size(), 3);
        const auto a = logits_in_pieces(model, state, more);
        const auto b = logits_in_pieces(model, expected, more);
        CHECK(same_bits(a, b));
        CHECK(same_state(state, expected));
    }
}

}  // namespace

TEST_CASE("Tokens taken back leave the state of those that are kept", "[rollback]") {
    for (const Index past : {0, 1, 11, 24, 130})
        for (const Index N : {1, 2, 5, 17}) {
            check_rollback<HydraLM<small_remembering, float>>(past, N);
            check_rollback<HydraLM<small_remembering, double>>(past, N);
        }
    check_rollback<HydraLM<small_hybrid, float>>(30, 24);
    for (const Index past : {0, 50, 130}) {
        check_rollback<HydraLM<small_full, float>>(past, 17);
        check_rollback<HydraLM<small_full, float>>(past, 17, {.format = BankFormat::int8});
        check_rollback<HydraLM<small_full, float>>(past, 17,
                                                   {.sparse = {.chunks = 1, .recent = 0}});
    }
    // Taken back over the end of a chunk that others are chosen beside, and of the second group.
    check_rollback<HydraLM<small_full, float>>(4 * 64 - 9, 17,
                                               {.sparse = {.chunks = 1, .recent = 0}});
    check_rollback<HydraLM<small_full, float>>(
        2 * 64 * 64 - 9, 17, {.open_groups = 1, .sparse = {.chunks = 1, .recent = 0}});
    using Model = HydraLM<small_remembering, float>;
    for (const Index past : {0, 25, 130, 900})
        for (const BankPolicy& policy :
             {BankPolicy{.format = BankFormat::int8, .open_groups = 1},
              BankPolicy{.exact_chunks = 1, .pooled_chunks = 1},
              BankPolicy{.format = BankFormat::bf16, .exact_chunks = 2, .pooled_chunks = 3}})
            check_rollback<Model>(past, 17, policy);
}
