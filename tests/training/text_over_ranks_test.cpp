// A text cut over ranks is the text: logits and states of every layer type, what is sent, what is
// refused.
#include "hydralm/training/text_over_ranks.hpp"

#include <map>

#include "../../examples/decayed_attention.hpp"
#include "hydralm/state/mapped_pages.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/runtime_blocks.hpp"
#include "support/small_model.hpp"
#include "support/thread_ranks.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;

// A model, its text, and what one rank makes of it.
template <class Model>
struct Whole {
    using T = typename Model::Scalar;

    Model model;
    std::vector<token_id> text;
    std::vector<T> logits;

    Whole(Model made, Index tokens, const BankPolicy& policy = {})
        : model(std::move(made)), text(random_tokens(tokens, static_cast<int>(V()), 3)) {
        initialise(model, 5, InitScheme::fan_in);
        auto state = model.new_state(64, policy);
        logits.resize(static_cast<std::size_t>(tokens * V()));
        model.logits(text, state, MatrixView<T>(logits.data(), tokens, V()));
    }
    Index V() const { return model.vocab_size(); }

    static auto exported(const Model& model, typename Model::State& state) {
        std::map<std::string, std::vector<T>> values;
        model.export_state(state, [&](const std::string& name, const auto&,
                                      const std::vector<T>& array) { values[name] = array; });
        return values;
    }
};

// On so many ranks: logits, the state behind every run, and how it goes on from there.
template <class Model>
void check_ranks(const Whole<Model>& whole, int count, const BankPolicy& policy = {}) {
    using T = typename Model::Scalar;
    const Index V = whole.V(), N = static_cast<Index>(whole.text.size());
    const std::string where = std::to_string(count) + " ranks, " + std::to_string(N) + " tokens";
    std::vector<T> logits(whole.logits.size(), std::numeric_limits<T>::quiet_NaN());
    std::vector<typename Model::State> states;
    for (int r = 0; r < count; ++r) states.push_back(whole.model.new_state(64, policy));
    on_ranks(count, [&](Ranks& ranks) {
        run_over_ranks(
            whole.model, std::span(whole.text), states[static_cast<std::size_t>(ranks.rank())],
            ranks, [&](MatrixView<const T> hidden, std::size_t first) {
                whole.model.head(hidden,
                                 {logits.data() + static_cast<Index>(first) * V, hidden.rows(), V});
            });
    });
    check_close(logits, whole.logits, bound<T>, where);
    CHECK(states.back().position() == N);
    CHECK(states.back().rests() == (policy.state == StateFormat::int16));
    for (auto& state : states) {
        auto expected = whole.model.new_state(64, policy);
        REQUIRE(state.position() > 0);
        whole.model.prefill(slice(whole.text, 0, static_cast<Index>(state.position())), expected);
        const auto at = where + ", position " + std::to_string(state.position()) + ", ";
        const auto found = Whole<Model>::exported(whole.model, state);
        for (const auto& [name, values] : Whole<Model>::exported(whole.model, expected))
            check_close(found.at(name), values, bound<T>, at + name);
        CHECK(state.bank_bytes().size() == expected.bank_bytes().size());
        check_close(whole.model.step(1, state), whole.model.step(1, expected), bound<T>,
                    at + "step");
        const auto more = slice(whole.text, 0, 29);
        check_close(whole.model.prefill(more, state), whole.model.prefill(more, expected), bound<T>,
                    at + "prefill");
    }
}

template <class T, class Kernels = SmallKernels>
Whole<RuntimeModel<T>> whole_of(const HydraConfig& config, Index tokens,
                                const BankPolicy& policy = {}) {
    return {RuntimeModel<T>(config, Kernels{}), tokens, policy};
}

// f(ranks) throws on every rank, with these parts in its text.
template <class F>
void check_refused(int count, const std::vector<std::string>& parts, const F& f) {
    std::vector<std::string> said(static_cast<std::size_t>(count));
    on_ranks(count, [&](Ranks& ranks) {
        attempt([&] { f(ranks); },
                [&](const Error& error) {
                    said[static_cast<std::size_t>(ranks.rank())] = error.what();
                });
    });
    for (const std::string& text : said)
        for (const std::string& part : parts) {
            INFO(text);
            CHECK(text.find(part) != std::string::npos);
        }
}

constexpr auto no_logits = [](const auto&, std::size_t) {};

}  // namespace

TEST_CASE("A text over ranks has the logits and states of one", "[ranks]") {
    const auto remembering = whole_of<double>(small_remembering, 331);
    for (const int count : {1, 2, 3, 4}) check_ranks(remembering, count);
    check_ranks(whole_of<float>(small_remembering, 331), 3);
    HydraConfig config = small_hybrid;
    config.dn_negative_eigenvalues = true;
    config.dn_use_gate = false;
    config.dn_short_conv_kernel = 3;
    check_ranks(whole_of<double>(config, 300), 4);
    check_ranks(whole_of<float>(config, 300), 4);
    config.swa_window = 1;
    config.dn_short_conv_kernel = 1;  // nothing of the tokens before but the state
    check_ranks(whole_of<double>(config, 70), 3);
    // Retrieval in chunks of 13; attention to the whole past has pages of 64 tokens.
    check_ranks(whole_of<double>(small_full, 2 * 832 + 5), 2);
    const BankPolicy sparse{.sparse = {.chunks = 3}};
    check_ranks(whole_of<double>(small_full, 2 * 832 + 5, sparse), 2, sparse);
    // The last rank opens one of two groups of 64 such pages.
    const BankPolicy opened{.open_groups = 1, .sparse = {.chunks = 3}};
    check_ranks(whole_of<double>(small_full, 15 * 832 + 5, opened), 3, opened);
}

TEST_CASE("A model whose shape is its type is cut as well", "[ranks]") {
    using Model = HydraLM<small_remembering, double>;
    check_ranks(Whole<Model>(Model(), 331), 3);
}

TEST_CASE("A text over ranks with a memory at rest in int16", "[ranks]") {
    using Model = HydraLM<small_remembering>;
    const BankPolicy resting{.state = StateFormat::int16};  // rounded behind the whole text
    for (const int count : {1, 3}) check_ranks(Whole<Model>(Model(), 331, resting), count, resting);
}

TEST_CASE("A text over ranks with few chunks of many, in groups, and in small banks", "[ranks]") {
    HydraConfig config = small_remembering;
    config.retrieval_top_k = 2;
    for (const BankPolicy& policy : {BankPolicy{}, BankPolicy{.open_groups = 1}}) {
        const auto whole = whole_of<double>(config, 1800, policy);  // two groups of chunks
        check_ranks(whole, 2, policy);
        check_ranks(whole, 3, policy);
    }
}

TEST_CASE("A text over ranks with banks that round, and with banks in a file", "[ranks]") {
    const auto pages = std::make_shared<MappedPages>("/var/tmp", Index{1} << 20);
    for (const BankPolicy& policy :
         {BankPolicy{.format = BankFormat::int8}, BankPolicy{.format = BankFormat::bf16},
          BankPolicy{.pages = pages}, BankPolicy{.pages = pages, .format = BankFormat::int8}})
        check_ranks(whole_of<double>(small_remembering, 331, policy), 3, policy);
}

TEST_CASE("A text over ranks has the likelihood of one", "[ranks]") {
    const auto whole = whole_of<double>(small_remembering, 331);
    Scorer scorer(whole.model);
    auto state = whole.model.new_state();
    scorer.feed(whole.text, state);
    for (const int count : {1, 3}) {
        std::vector<kernels::LossSum> found(static_cast<std::size_t>(count));
        on_ranks(count, [&](Ranks& ranks) {
            auto own = whole.model.new_state(16);
            found[static_cast<std::size_t>(ranks.rank())] =
                score_over_ranks(whole.model, std::span(whole.text), own, ranks);
        });
        for (const kernels::LossSum& one : found) {
            CHECK(one.count == scorer.predictions());
            CHECK(one.sum == Approx(-scorer.log_likelihood()).epsilon(1e-12));
        }
    }
}

TEST_CASE("What a rank sends of the delta rule does not grow with the text", "[ranks]") {
    HydraConfig config = small_hybrid;
    config.swa_every = 4;  // no window in three layers
    const Index d = config.d_model, H = config.n_heads, D = d / H, layers = config.n_layers,
                each = layers * (H * D * D + (config.dn_short_conv_kernel - 1) * d);
    for (const Index tokens : {40, 400}) {
        const auto whole = whole_of<float>(config, tokens);
        std::vector<Index> sent(3), rows(3);
        on_ranks(3, [&](Ranks& ranks) {
            auto state = whole.model.new_state();
            const auto rank = static_cast<std::size_t>(ranks.rank());
            run_over_ranks(
                whole.model, std::span(whole.text), state, ranks,
                [&](MatrixView<const float> hidden, std::size_t) { rows[rank] += hidden.rows(); });
            sent[rank] = ranks.traffic().bytes_sent;
        });
        for (Index r = 0; r < 3; ++r)
            CHECK(rows[static_cast<std::size_t>(r)] == tokens * (r + 1) / 3 - tokens * r / 3);
        // Beside facts that are compared: the last rank sends nothing else.
        CHECK(sent[0] - sent[2] == each * Index{sizeof(float)});
        CHECK(sent[1] - sent[2] == each * Index{sizeof(float)});
    }
}

TEST_CASE("Texts that cannot be cut are refused on every rank", "[ranks]") {
    const auto whole = whole_of<float>(small_remembering, 103);
    const auto feed = [&](Ranks& ranks, std::span<const token_id> text,
                          const BankPolicy& policy = {}) {
        auto state = whole.model.new_state(64, policy);
        run_over_ranks(whole.model, text, state, ranks, no_logits);
    };
    const std::span<const token_id> text = whole.text;
    check_refused(4, {"text: expected at least 104 tokens for 4 ranks, found 103", "fewer ranks"},
                  [&](Ranks& ranks) { feed(ranks, text); });
    check_refused(2, {"text: expected at least 52 tokens", "found 0"},
                  [&](Ranks& ranks) { feed(ranks, {}); });
    auto other = whole.text;
    other[7] = (other[7] + 1) % 53;
    check_refused(2, {"rank 1: text, tokens, CRC-32: expected "}, [&](Ranks& ranks) {
        feed(ranks, ranks.rank() == 0 ? text : std::span<const token_id>(other));
    });
    check_refused(2, {"rank 1: text, tokens: expected 103, found 102"}, [&](Ranks& ranks) {
        feed(ranks, text.first(static_cast<std::size_t>(103 - ranks.rank())));
    });
    other[3] = 53;
    check_refused(2, {"token 3: expected an id in [0, 53)"},
                  [&](Ranks& ranks) { feed(ranks, other); });
    check_refused(2, {"banks: expected banks that keep every token"}, [&](Ranks& ranks) {
        feed(ranks, text, {.exact_chunks = 2, .pooled_chunks = 3});
    });
    check_refused(2, {"position: expected 0, found 1"}, [&](Ranks& ranks) {
        auto state = whole.model.new_state();
        whole.model.step(0, state);
        run_over_ranks(whole.model, text, state, ranks, no_logits);
    });
    auto weights = whole_of<float>(small_remembering, 103);
    initialise(weights.model, 6, InitScheme::fan_in);
    check_refused(2, {"rank 1: weights, CRC-32: expected "}, [&](Ranks& ranks) {
        const auto& model = ranks.rank() == 0 ? whole.model : weights.model;
        auto state = model.new_state();
        run_over_ranks(model, text, state, ranks, no_logits);
    });
}

TEST_CASE("What one rank alone has wrong is refused on every rank", "[ranks]") {
    const auto whole = whole_of<float>(small_remembering, 103);
    const std::span<const token_id> text = whole.text;
    // The rank has another policy than the others.
    const auto with_policy = [&](int rank, const BankPolicy& policy) {
        return [&whole, text, rank, policy](Ranks& ranks) {
            auto state = whole.model.new_state(64, ranks.rank() == rank ? policy : BankPolicy{});
            run_over_ranks(whole.model, text, state, ranks, no_logits);
        };
    };
    check_refused(3, {"rank 1: banks.0.format: expected"},
                  with_policy(1, {.format = BankFormat::bf16}));
    check_refused(3, {"rank 2: banks.0.open_groups: expected 0, found 1"},
                  with_policy(2, {.open_groups = 1}));
    check_refused(2, {"rank 1: banks.0.exact_chunks: expected 0, found 2"},
                  with_policy(1, {.exact_chunks = 2, .pooled_chunks = 3}));
    struct NoPages : PageSource {
        std::shared_ptr<std::byte> take(Index) override { throw std::bad_alloc(); }
        void expect(Index) noexcept override {}
        Index budget() const noexcept override { return Index{1} << 30; }
    };
    for (const int rank : {0, 2})
        check_refused(3, {rank == 0 ? "hydralm: memory: " : "hydralm: rank 2: memory: "},
                      with_policy(rank, {.pages = std::make_shared<NoPages>()}));

    for (const int rank : {0, 1})
        check_refused(2, {rank == 0 ? "hydralm: position: " : "hydralm: rank 1: position: "},
                      [&](Ranks& ranks) {
                          auto state = whole.model.new_state();
                          if (ranks.rank() == rank) whole.model.step(0, state);
                          run_over_ranks(whole.model, text, state, ranks, no_logits);
                      });
    auto wider = small_remembering;
    wider.swa_window = 25;
    const auto other = whole_of<float>(wider, 1);  // of the same weights
    check_refused(2, {"rank 1: state: expected"}, [&](Ranks& ranks) {
        auto state = (ranks.rank() == 1 ? other : whole).model.new_state();
        run_over_ranks(whole.model, text, state, ranks, no_logits);
    });
    check_refused(2, {"rank 1: shape of states: expected"}, [&](Ranks& ranks) {
        const auto& model = (ranks.rank() == 1 ? other : whole).model;
        auto state = model.new_state();
        run_over_ranks(model, text, state, ranks, no_logits);
    });
    auto emptied = whole_of<float>(small_remembering, 1);
    const auto weights = std::move(emptied.model);
    check_refused(2, {"rank 1: model: expected one with weights"}, [&](Ranks& ranks) {
        auto state = whole.model.new_state();
        run_over_ranks(ranks.rank() == 1 ? emptied.model : whole.model, text, state, ranks,
                       no_logits);
    });
}

TEST_CASE("A layer that cannot be cut is named", "[ranks]") {
    using Mlp = SwiGLU<float, MlpShape<16, 24>>;
    using Norm = RmsNorm<float, NormShape<16>>;
    using Window = SlidingWindowAttention<float, 8, 0, WindowShape<16, 2, 4>>;
    const LanguageModel<Vocabulary<53>, Stack<Block<Window, Mlp, Norm>,
                                              Block<my::DecayedAttention<float, 16, 2>, Mlp, Norm>>>
        model;
    const auto text = random_tokens(40, 53, 1);
    check_refused(2, {"layer 1: expected a layer whose state passes", "one rank"},
                  [&](Ranks& ranks) {
                      auto state = model.new_state();
                      run_over_ranks(model, std::span(text), state, ranks, no_logits);
                  });
}
