// A conversation: by turns as at once, bit for bit, whatever was said in between.
#include "hydralm/inference/conversation.hpp"

#include "support/files.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_remembering>;

// Logits and state after dialogue are those of a prefill of it.
void check_read(const Model& model, Conversation<Model>& conversation,
                const std::vector<token_id>& dialogue) {
    auto expected = model.new_state();
    const auto a = model.prefill(dialogue, expected);
    const auto b = conversation.read(dialogue);
    CHECK(same_bits(a, b));
    CHECK(same_state(conversation.state(), expected));
}

}  // namespace

TEST_CASE("A conversation by turns is the conversation at once, bit for bit", "[conversation]") {
    const auto model = random_model<Model>(1);
    Conversation<Model> conversation(model);
    std::vector<token_id> dialogue;
    const auto add = [&](Index tokens) {
        const auto more = random_tokens(tokens, 53, static_cast<std::uint64_t>(dialogue.size()));
        dialogue.insert(dialogue.end(), more.begin(), more.end());
    };
    std::int64_t before = 0;
    for (const Index turn : {1, 30, 225, 1, 255, 257, 512, 3, 700}) {
        add(turn);
        check_read(model, conversation, dialogue);
        CHECK(conversation.resumed() == std::max<std::int64_t>(before - 1, 0) / 256 * 256);
        before = std::ssize(dialogue);
        const auto answer = random_tokens(40, 53, 7);
        for (const token_id token : answer) model.step(token, conversation.state());
        if (turn == 3) dialogue.insert(dialogue.end(), answer.begin(), answer.end());
    }
    conversation.read(dialogue);  // the last token is fed again
    CHECK(conversation.resumed() == (std::ssize(dialogue) - 1) / 256 * 256);
    conversation.reset();
    check_read(model, conversation, dialogue);
    CHECK(conversation.resumed() == 0);
}

TEST_CASE("A changed dialogue is read from what it has in common", "[conversation]") {
    const auto model = random_model<Model>(2);
    for (const std::size_t marks : {std::size_t{0}, std::size_t{2}, std::size_t{8}}) {
        Conversation<Model> conversation(model, {}, marks);
        auto dialogue = random_tokens(1200, 53, 3);
        const auto read = [&](std::size_t tokens) {
            check_read(model, conversation,
                       {dialogue.begin(), dialogue.begin() + static_cast<std::ptrdiff_t>(tokens)});
            return conversation.resumed();
        };
        const auto kept = [&](std::int64_t most, std::int64_t of_two) {
            return marks == 0 ? 0 : marks == 2 ? of_two : most;
        };
        CHECK(read(300) == 0);
        CHECK(read(600) == kept(256, 256));
        CHECK(read(900) == kept(512, 512));
        CHECK(read(1200) == kept(768, 768));
        dialogue[1000] = (dialogue[1000] + 1) % 53;
        CHECK(read(1200) == kept(768, 768));
        dialogue[700] = (dialogue[700] + 1) % 53;
        CHECK(read(1200) == kept(512, 0));
        CHECK(read(200) == 0);
        dialogue[0] = (dialogue[0] + 1) % 53;
        CHECK(read(1200) == 0);
    }
}

TEST_CASE("A conversation refuses what the model does", "[conversation]") {
    const auto model = random_model<Model>(3);
    const auto dialogue = random_tokens(300, 53, 1);
    hydralm::Conversation<Model> conversation(model);
    const auto logits = conversation.read(dialogue);  // all of it, at every turn
    CHECK(logits.size() == 53);
    check_error([&] { conversation.read({}); }, {"tokens: expected at least one, found none"});
    const std::vector<token_id> beyond{1, 53};
    check_error([&] { conversation.read(beyond); }, {"token 1: expected an id in [0, 53)"});
    check_read(model, conversation, dialogue);
    CHECK(conversation.resumed() == 256);
}
