// Many streams of one const model, stepped in a random order, in batches and alone, on one thread
// and on several: each has the bits of a stream that was never interrupted.
#include <thread>
#include <vector>

#include "hydralm/inference/batch_decoder.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

// All three mixers; two of the chunks are kept.
constexpr HydraConfig config = [] {
    HydraConfig c = small_remembering;
    c.retrieval_top_k = 2;
    return c;
}();
using Model = HydraLM<config>;
constexpr Index V = config.vocab_size;

constexpr Index batched = 7, single = 9, streams = batched + single;

// Sixteen streams, whose banks keep the past in every way: seven in a decoder, the others on their
// own.
class Interleaving {
public:
    Interleaving(const Model& model, std::uint64_t seed)
        : model_(model), random_(seed, 1), batch_(model, batched) {
        for (Index b = 0; b < batched; ++b) batch_.state(b) = new_state(b);
        for (Index b = batched; b < streams; ++b) alone_.push_back(new_state(b));
    }

    // One step of a random stream, or of the batch, with random tokens.
    void turn() {
        const auto who = static_cast<Index>(random_.below(single + 1));
        if (who < single) {
            const token_id token = next(batched + who);
            take(batched + who, model_.step(token, alone_[static_cast<std::size_t>(who)]));
            return;
        }
        std::vector<token_id> tokens;
        for (Index b = 0; b < batched; ++b) tokens.push_back(next(b));
        const auto logits = batch_.step(tokens);
        for (Index b = 0; b < batched; ++b)
            take(b, std::span<const float>(logits.row(b), static_cast<std::size_t>(V)));
    }

    // Every stream again, from its first token to its last.
    void check() const {
        for (Index b = 0; b < streams; ++b) {
            const Text& text = texts_[static_cast<std::size_t>(b)];
            auto state = new_state(b);
            const auto logits = logits_by_step(model_, state, text.tokens);
            INFO("stream " << b << " of " << text.tokens.size() << " tokens");
            CHECK(state.position() > 100);
            CHECK(same_bits(text.logits, logits));
            CHECK(same_state(
                b < batched ? batch_.state(b) : alone_[static_cast<std::size_t>(b - batched)],
                state));
        }
    }

private:
    struct Text {
        std::vector<token_id> tokens;
        std::vector<float> logits;
    };

    Model::State new_state(Index b) const {
        const auto policies = bank_policies();
        return model_.new_state(1, policies[static_cast<std::size_t>(b) % policies.size()]);
    }
    token_id next(Index b) {
        const auto token = static_cast<token_id>(random_.below(V));
        texts_[static_cast<std::size_t>(b)].tokens.push_back(token);
        return token;
    }
    void take(Index b, std::span<const float> logits) {
        auto& all = texts_[static_cast<std::size_t>(b)].logits;
        all.insert(all.end(), logits.begin(), logits.end());
    }

    const Model& model_;
    Random random_;
    BatchDecoder<Model> batch_;
    std::vector<Model::State> alone_;
    std::vector<Text> texts_{streams};
};

constexpr int groups = 4, turns = 10'000;  // 64 streams

std::vector<Interleaving> interleavings(const Model& model) {
    std::vector<Interleaving> all;
    for (std::uint64_t i = 0; i < groups; ++i) all.emplace_back(model, i);
    return all;
}

}  // namespace

TEST_CASE("Interleaved streams have the bits they have alone", "[interleaving][threads]") {
    const Model model = random_model<Model>(1);
    auto all = interleavings(model);
    Random random(2, 1);
    for (int turn = 0; turn < turns; ++turn) all[random.below(groups)].turn();
    for (const Interleaving& some : all) some.check();
}

TEST_CASE("So they have on threads that share the model", "[interleaving][threads]") {
    const Model model = random_model<Model>(3);
    auto all = interleavings(model);
    {
        std::vector<std::jthread> threads;
        for (Interleaving& some : all)
            threads.emplace_back([&some] {
                for (int turn = 0; turn < turns / groups; ++turn) some.turn();
            });
    }
    for (const Interleaving& some : all) some.check();
}
