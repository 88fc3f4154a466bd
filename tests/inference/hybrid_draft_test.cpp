// Speculative decoding of a published model by its own module of multi-token prediction.
#include "hydralm/inference/hybrid_draft.hpp"

#include "hydralm/families/open.hpp"
#include "hydralm/inference/speculative.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/runtime_blocks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {
const std::string folder = HYDRALM_GOLDEN_DIR "/published/";
}

TEST_CASE("A published model's own module drafts what it should, and changes no token",
          "[speculative]") {
    const std::string name = "qwen35_composite_bf16";
    const auto model = open<float>(folder + name, weights::Float{}, NoKernels{});
    const auto mtp = open_mtp<float>(folder + name);
    const GoldenFile expected = read_golden("published/" + name + "/expected.safetensors");
    const auto ids = expected["input_ids"].as<token_id>();
    const auto greedy = expected["greedy_ids"].as<token_id>();
    const auto V = static_cast<std::size_t>(model.vocab_size());

    // After all tokens but the last, the draft for what follows it.
    HybridDraft draft(model, mtp);
    STATIC_REQUIRE(FollowsTokens<HybridDraft<float>, float>);
    for (const std::size_t piece : {ids.size(), std::size_t{7}}) {
        draft.reset();
        auto state = model.new_state();
        for (std::size_t first = 0; first + 1 < ids.size(); first += piece) {
            const auto some =
                std::span(ids).subspan(first, std::min(piece, ids.size() - 1 - first));
            draft.reserve(static_cast<Index>(some.size()));
            model.run(
                some, state, Form::parallel,
                [&](MatrixView<const float> hidden, std::size_t) { draft.follow(some, hidden); });
        }
        const auto& rows = expected["mtp_logits"].values;
        const std::vector<double> last(rows.end() - static_cast<std::ptrdiff_t>(V), rows.end());
        check_close(draft.next(ids.back()), last, 1e-4, "the first draft");
        CHECK(draft.next(ids.front()).size() == V);  // a chain, from the module's own output
        draft.begin({}, {});
        check_close(draft.next(ids.back()), last, 1e-4, "the first draft, again");
    }

    for (const Index drafts : {0, 1, 3}) {
        SpeculativeDecoder<RuntimeModel<float>, HybridDraft<float>> decoder(model, draft, drafts);
        auto state = model.new_state();
        Sampler<float> sampler(model.vocab_size(), {.temperature = 0.0});
        decoder.prefill(ids, state);
        std::vector<token_id> out;
        decoder.generate(state, sampler, static_cast<Index>(greedy.size()), [&](token_id token) {
            out.push_back(token);
            return true;
        });
        CHECK(out == greedy);
        CHECK((decoder.statistics().proposed > 0) == (drafts > 0));
    }
    const auto other = open<float>(folder + "qwen35_real_heads", weights::Float{}, NoKernels{});
    check_error([&] { HybridDraft<float>(other, mtp); },
                {"d_model of the draft: expected 32, found 56"});
}
