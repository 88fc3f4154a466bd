// Where the model's own draft begins: the hidden state after the final norm, in every round.
#include "hydralm/inference/drafts.hpp"

#include "hydralm/inference/speculative.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

inline constexpr HydraConfig drafting{.vocab_size = 11,
                                      .d_model = 24,
                                      .n_layers = 2,
                                      .n_heads = 2,
                                      .mlp_multiple_of = 5,
                                      .swa_window = 24,
                                      .swa_every = 2,
                                      .mtp_depth = 2};
using Model = HydraLM<drafting>;
constexpr Index d = drafting.d_model, V = drafting.vocab_size;

// Its final norm is far from 1: the state before it has another direction.
Model model_with_norm() {
    Model model = random_model<Model>(1);
    std::vector<float> weights;
    model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        weights.insert(weights.end(), values.begin(), values.end());
    });
    Random random(2);
    auto from = weights.begin();
    model.set_parameters([&](const ParameterInfo& info, std::span<float> values) {
        for (float& x : values) x = *from++;
        if (info.name() == "norm_f.weight")
            for (float& x : values) x = static_cast<float>(random.normal());
    });
    return model;
}

// What the stack makes of tokens, before the final norm.
std::vector<float> before_norm(const Model& model, std::span<const token_id> tokens) {
    const auto N = static_cast<Index>(tokens.size());
    std::vector<float> x(static_cast<std::size_t>(N * d));
    for (Index n = 0; n < N; ++n)
        model.weights().embed.copy_row(tokens[static_cast<std::size_t>(n)], x.data() + n * d);
    auto state = model.new_state();
    const Stream stream = state.stream();
    AlignedBuffer<std::byte> workspace(scratch_bytes(Model::stack, {1, N, Form::recurrent}));
    Arena arena(workspace.span());
    Model::stack.forward(model.weights().blocks, Streams(&stream, 1), N, {x.data(), N, d},
                         Form::recurrent, arena);
    return x;
}

std::vector<float> normed(const Model& model, std::vector<float> x) {
    const Index N = static_cast<Index>(x.size()) / d;
    kernels::reference::rms_norm<float>(MatrixView<const float>(x.data(), N, d),
                                        std::span<const float>(model.weights().norm_f.weight),
                                        drafting.rms_eps, MatrixView<float>(x.data(), N, d));
    return x;
}

// Logits of module 0 for hidden [d] and the token that follows.
std::vector<float> module_logits(const Model& model, const float* hidden, token_id token) {
    std::vector<float> embedded(d), out(d), logits(V, std::numeric_limits<float>::quiet_NaN());
    model.weights().embed.copy_row(token, embedded.data());
    AlignedBuffer<std::byte> workspace(scratch_bytes(Model::mtp_module, {.form = Form::recurrent}));
    Arena arena(workspace.span());
    Model::mtp_module.forward(model.weights().mtp[0], {hidden, 1, d}, {embedded.data(), 1, d},
                              {out.data(), 1, d}, arena);
    out = normed(model, out);
    model.head({out.data(), 1, d}, {logits.data(), 1, V});
    return logits;
}

// Keeps what it was told, and the first logits it answered.
struct Listening : MtpDraft<Model> {
    using MtpDraft<Model>::MtpDraft;
    struct Round {
        std::size_t fed = 0;  // all tokens so far
        std::vector<float> hidden{};
        token_id token = -1;
        std::vector<float> logits{};
    };
    std::vector<Round> rounds;

    void begin(std::span<const token_id> fed, MatrixView<const float> hidden) {
        rounds.push_back({.fed = (rounds.empty() ? 0 : rounds.back().fed) + fed.size(),
                          .hidden = {hidden.row(0), hidden.row(0) + hidden.cols()}});
        MtpDraft<Model>::begin(fed, hidden);
    }
    std::span<const float> next(token_id token) {
        const auto logits = MtpDraft<Model>::next(token);
        if (rounds.back().token < 0) {
            rounds.back().token = token;
            rounds.back().logits.assign(logits.begin(), logits.end());
        }
        return logits;
    }
};

}  // namespace

TEST_CASE("A draft begins at the hidden state after the final norm", "[speculative][mtp]") {
    const Model model = model_with_norm();
    auto text = random_tokens(19, V, 3);
    Listening draft(model);
    SpeculativeDecoder<Model, Listening> decoder(model, draft, 2);
    auto state = model.new_state();
    Sampler<float> sampler(V, {.temperature = 0.9, .seed = 4});
    decoder.prefill(text, state);
    decoder.generate(state, sampler, 40, [&](token_id token) {
        text.push_back(token);
        return true;
    });

    const auto before = before_norm(model, text), after = normed(model, before);
    REQUIRE(draft.rounds.size() > 12);
    for (const auto& round : draft.rounds) {
        const std::size_t at = (round.fed - 1) * d;
        check_close(round.hidden, std::span(after).subspan(at, d), 1e-5,
                    "hidden state of token " + std::to_string(round.fed - 1));
        if (round.token < 0) continue;  // nothing was left to draft
        check_close(round.logits, module_logits(model, after.data() + at, round.token), 1e-4,
                    "draft after token " + std::to_string(round.fed - 1));
        const auto wrong = module_logits(model, before.data() + at, round.token);
        CHECK(difference(wrong, round.logits).relative_rms > 0.05);  // the test can tell
    }
}
