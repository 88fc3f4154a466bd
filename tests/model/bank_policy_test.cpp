// A model whose banks keep the past in other ways: forks, forms, memory that does not grow.
#include <map>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/few_pages.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Retrieval alone, so that forms have the same bits; a few chunks of many are kept.
constexpr HydraConfig config{.vocab_size = 53,
                             .d_model = 24,
                             .n_layers = 2,
                             .n_heads = 2,
                             .mlp_multiple_of = 5,
                             .layer_types = {LayerType::retrieval, LayerType::retrieval},
                             .retrieval_chunk_size = 5,
                             .retrieval_top_k = 2};
using Model = HydraLM<config>;

Model::State new_state(const Model& model, const BankPolicy& policy) {
    return model.new_state(Model::prefill_tile, policy);
}

}  // namespace

TEST_CASE("Whatever banks keep, prefill, any cut of it and steps are the same bits",
          "[bank_policy]") {
    const auto model = random_model<Model>(1);
    const auto tokens = random_tokens(900, 53, 1);
    for (const BankPolicy& policy : bank_policies()) {
        auto whole = new_state(model, policy), cut = whole, stepped = whole;
        const auto expected = logits_in_pieces(model, whole, tokens);
        CHECK(same_bits(logits_in_pieces(model, cut, tokens, {1, 4, 5, 300, 517}), expected));
        CHECK(same_bits(logits_by_step(model, stepped, tokens), expected));
        CHECK(same_state(whole, cut));
        CHECK(same_state(whole, stepped));
    }
}

TEST_CASE("Whatever banks keep, forks go their own ways and files go on", "[bank_policy]") {
    const auto model = random_model<Model>(2);
    const auto tokens = random_tokens(900, 53, 2);
    const auto past = slice(tokens, 0, 403), rest = slice(tokens, 403, 497);
    for (const BankPolicy& policy : bank_policies()) {
        auto trunk = new_state(model, policy);
        model.prefill(past, trunk);
        auto fork = trunk;
        auto restored = new_state(model, policy);
        restored.restore(trunk.bytes(), trunk.bank_bytes(), trunk.position());
        CHECK(same_state(restored, trunk));
        model.prefill(random_tokens(300, 53, 3), fork);  // over the same open chunk
        auto fresh = new_state(model, policy);
        model.prefill(past, fresh);
        const auto expected = logits_in_pieces(model, fresh, rest);
        CHECK(same_bits(logits_in_pieces(model, trunk, rest), expected));
        CHECK(same_bits(logits_in_pieces(model, restored, rest), expected));
        CHECK(same_state(trunk, fresh));
        CHECK(same_state(restored, fresh));
    }
}

TEST_CASE("A state assigned to one of another policy goes on as it would have", "[bank_policy]") {
    const auto model = random_model<Model>(4);
    const auto past = random_tokens(403, 53, 4), rest = random_tokens(97, 53, 5);
    for (const BankPolicy& from : bank_policies())
        for (const BankPolicy& to : bank_policies()) {
            auto state = new_state(model, from), assigned = new_state(model, to);
            model.prefill(past, state);
            model.prefill(random_tokens(200, 53, 6), assigned);
            CHECK(assigned.keeps_as(state) == (from == to));
            assigned = state;
            CHECK(assigned.keeps_as(state));
            CHECK(same_bits(logits_in_pieces(model, assigned, rest),
                            logits_in_pieces(model, state, rest)));
            CHECK(same_state(assigned, state));
        }
}

TEST_CASE("A state whose assignment runs out of memory is what it was", "[bank_policy]") {
    const auto model = random_model<Model>(6);
    const auto rest = random_tokens(97, 53, 8);
    for (const BankPolicy& from : bank_policies())
        for (const BankPolicy& to :
             {BankPolicy{}, BankPolicy{.exact_chunks = 2, .pooled_chunks = 3}}) {
            auto state = new_state(model, from), assigned = new_state(model, to);
            model.prefill(random_tokens(903, 53, 9), state);
            model.prefill(random_tokens(200, 53, 10), assigned);
            auto before = assigned;
            bool done = false;
            int failures = 0;
            for (; !done; ++failures) {
                test::fail_after(failures);
                try {
                    assigned = state;
                    done = true;
                } catch (const std::bad_alloc&) {
                }
                test::fail_never();
                if (done) break;
                CHECK(assigned.keeps_as(before));
                CHECK(same_state(assigned, before));
                auto copy = assigned, expected = before;
                CHECK(same_bits(logits_in_pieces(model, copy, rest),
                                logits_in_pieces(model, expected, rest)));
            }
            CHECK(failures >= 5);  // two banks, two tables of pages or more in each
            CHECK(same_state(assigned, state));
        }
}

TEST_CASE("Where pages run out a stream goes on when there are more", "[bank_policy]") {
    const auto model = random_model<Model>(5);
    const auto tokens = random_tokens(900, 53, 7);
    for (BankPolicy policy : bank_policies())
        for (const Index pages : {0, 1, 60, 105}) {
            auto expected = new_state(model, policy);
            const auto logits = logits_in_pieces(model, expected, tokens);
            const auto few = std::make_shared<FewPages>();
            policy.pages = few;
            few->left = pages;
            auto state = new_state(model, policy);
            CHECK_THROWS_AS(model.prefill(tokens, state), std::bad_alloc);
            CHECK(state.position() == (policy.bounded() && pages == 105 ? 256 : 0));
            few->left = 1000;
            const auto rest = slice(tokens, state.position(), 900 - state.position());
            const auto found = logits_in_pieces(model, state, rest);
            CHECK(same_bits(found, std::span(logits).last(found.size())));
            CHECK(same_state(state, expected));
            policy.pages = nullptr;
        }
}

TEST_CASE("Bounded banks keep within their budget for ever", "[bank_policy]") {
    const auto model = random_model<Model>(3);
    constexpr Index budget = 700000;
    for (const BankFormat format : {BankFormat::exact, BankFormat::bf16, BankFormat::int8}) {
        const BankPolicy policy = Model::bounded_banks(budget, format);
        CHECK(policy.format == format);
        CHECK(policy.bounded());
        auto state = new_state(model, policy);
        Index most = 0;
        for (int i = 0; i < 12; ++i) {
            model.prefill(random_tokens(2500, 53, static_cast<std::uint64_t>(i)), state);
            most = std::max(most, state.size() - Model::state_bytes);
        }
        CHECK(most <= budget);
        CHECK(most > budget * 3 / 4);  // it is not thrifty either
    }
    CHECK_THROWS_AS(Model::bounded_banks(50000), Error);
    CHECK_FALSE(HydraLM<small_hybrid>::bounded_banks(budget).bounded());
}

namespace {

struct Reads : ReadObserver {
    struct Read {
        std::int64_t position;
        Index head, chunk;
        double weight;
        bool operator==(const Read&) const = default;
        auto operator<=>(const Read&) const = default;
    };
    std::vector<Read> all;
    void read(std::int64_t position, Index head, Index chunk, double weight) noexcept override {
        all.push_back({position, head, chunk, weight});
    }
};

}  // namespace

TEST_CASE("An observer is told what every token reads, in every form", "[bank_policy]") {
    const auto model = random_model<Model>(8);
    const auto tokens = random_tokens(403, 53, 8);
    for (BankPolicy policy : bank_policies()) {
        auto unseen = new_state(model, policy);
        const auto expected = logits_in_pieces(model, unseen, tokens);
        const auto reads = std::make_shared<Reads>(), by_step = std::make_shared<Reads>();
        policy.reads = reads;
        auto whole = new_state(model, policy);
        CHECK(same_bits(logits_in_pieces(model, whole, tokens), expected));
        policy.reads = by_step;
        auto stepped = new_state(model, policy);
        CHECK(same_bits(logits_by_step(model, stepped, tokens), expected));
        std::map<std::pair<std::int64_t, Index>, Index> chunks;
        for (const auto& [position, head, chunk, weight] : reads->all) {
            CHECK((chunk >= 0 && chunk < position / config.retrieval_chunk_size));
            CHECK((weight > 0.0 && weight < 1.0));
            ++chunks[{position, head}];
        }
        for (Index t = 0; t < 403; ++t)
            for (Index h = 0; h < config.n_heads; ++h)
                CHECK(chunks[{t, h}] ==
                      config.n_layers *
                          std::min<Index>(config.retrieval_top_k, t / config.retrieval_chunk_size));
        std::ranges::sort(reads->all);
        std::ranges::sort(by_step->all);
        CHECK(reads->all == by_step->all);
    }
}
