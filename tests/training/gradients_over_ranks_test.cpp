// Gradients of texts that are cut over ranks are those of one: every layer type, from carried
// states and back to them; what is sent, what is refused.
#include "hydralm/training/gradients_over_ranks.hpp"

#include <cstring>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/runtime_blocks.hpp"
#include "support/shared_gradients.hpp"
#include "support/small_model.hpp"
#include "support/thread_ranks.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 1e-3 : 1e-10;

// What a call of add leaves.
template <class T>
struct Found {
    kernels::LossSum loss;
    std::vector<T> gradient, state_gradient;
    std::vector<std::byte> states;
    std::int64_t position = 0, end = 0;  // of the states, and of the run
};

// A model and B texts of N tokens behind others that it has read; the gradient of their loss and of
// a sum of what is carried on.
template <class Model>
struct Texts {
    using T = typename Model::Scalar;

    Model model;
    Index streams, tokens, before;
    std::vector<token_id> ids, labels;
    BatchStates<Model> carried;
    Keep keep = Keep::everything;

    Texts(Model made, Index B, Index N, Index past)
        : model(std::move(made)),
          streams(B),
          tokens(N),
          before(past),
          ids(random_tokens(B * N, V(), 3)),
          labels(random_tokens(B * N, V(), 4)),
          carried((initialise(model, 5, InitScheme::fan_in), model), B) {
        for (std::size_t i = 0; i < labels.size(); i += 5) labels[i] = kernels::ignore_index;
        if (before == 0) return;
        const auto read = random_tokens(B * before, V(), 6);
        AlignedBuffer<std::byte> workspace(model.workspace_bytes(B, before));
        Arena arena(workspace.span());
        model.forward(read.data(), carried.streams(before), before, Form::parallel, arena);
        carried.advance(before);
    }
    int V() const { return static_cast<int>(model.vocab_size()); }
    double scale() const { return 1.0 / static_cast<double>(kernels::count_labels(labels)); }

    // Into the gradient of final states.
    void fill(BatchStates<Model>& gradient) const {
        for (Index b = 0; b < streams; ++b) {
            const std::span<std::byte> bytes = gradient[b].bytes();
            for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
                const T value = T(0.01) * static_cast<T>(i % 7) - T(0.03);
                std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
            }
        }
    }
    static void append(std::vector<T>& values, std::span<const std::byte> bytes) {
        const std::size_t size = values.size();
        values.resize(size + bytes.size() / sizeof(T));
        std::memcpy(values.data() + size, bytes.data(), bytes.size());
    }
    // Of first states, with the pages that they have.
    std::vector<T> read(const BatchStates<Model>& gradient) const {
        std::vector<T> values;
        for (Index b = 0; b < streams; ++b) {
            append(values, gradient[b].bytes());
            for (const PageBank& bank : gradient[b].banks())
                bank.for_each_page(before, [&](auto page) { append(values, page); });
        }
        return values;
    }
    static std::vector<T> copy(std::span<const T> values) { return {values.begin(), values.end()}; }

    Found<T> on_one() const {
        Gradients<Model> gradients(model, streams, tokens);
        gradients.refresh(model);
        fill(gradients.state_gradients());
        BatchStates<Model> states = carried;
        const auto loss = gradients.add(model, ids, labels, states.streams(tokens), scale());
        states.advance(tokens);
        return {loss,           copy(gradients.values()), read(gradients.state_gradients()),
                states.bytes(), states.position(),        before + tokens};
    }
    // Of every rank.
    std::vector<Found<T>> on(int count) const {
        std::vector<Found<T>> found(static_cast<std::size_t>(count));
        on_ranks(count, [&](Ranks& ranks) {
            GradientsOverRanks<Model> gradients(model, streams, tokens, ranks, keep);
            gradients.refresh(model);
            fill(gradients.state_gradients());  // counts on the last rank alone
            BatchStates<Model> states = ranks.rank() == 0 ? carried : BatchStates(model, streams);
            auto& own = found[static_cast<std::size_t>(ranks.rank())];
            own.loss = gradients.add(model, ids, labels, states, scale());
            gradients.sum_over_ranks();
            own.gradient = copy(gradients.values());
            own.state_gradient = read(gradients.state_gradients());
            own.states = states.bytes();
            own.position = states.position();
            own.end = before + gradients.first() + gradients.size();
        });
        return found;
    }
};

template <class Model>
void check_ranks(const Texts<Model>& texts, std::initializer_list<int> counts) {
    using T = typename Model::Scalar;
    const Found<T> expected = texts.on_one();
    for (const int count : counts) {
        const std::string where =
            std::to_string(count) + " ranks, " + std::to_string(texts.tokens) + " tokens, ";
        const auto found = texts.on(count);
        for (const Found<T>& own : found) {
            CHECK(own.loss.count == expected.loss.count);
            CHECK(own.loss.sum == Approx(expected.loss.sum).epsilon(bound<T> / 100));
            CHECK(same_bits(own.gradient, found.front().gradient));
            CHECK(own.position == own.end);
        }
        CHECK(found.back().end == expected.end);
        Index first = 0;
        for (const ParameterInfo& info : texts.model.parameters) {
            const auto part = [&](const std::vector<T>& all) {
                return std::span(all).subspan(static_cast<std::size_t>(first),
                                              static_cast<std::size_t>(info.size()));
            };
            check_close(part(found.front().gradient), part(expected.gradient), bound<T>,
                        where + std::string(info.name()));
            first += info.size();
        }
        check_close(found.front().state_gradient, expected.state_gradient, bound<T>,
                    where + "gradient of the first states");
        std::vector<T> states, whole;
        Texts<Model>::append(states, found.back().states);
        Texts<Model>::append(whole, expected.states);
        check_close(states, whole, bound<T>, where + "final states");
    }
}

template <class T>
Texts<RuntimeModel<T>> texts_of(const HydraConfig& config, Index streams, Index tokens,
                                Index before) {
    return {RuntimeModel<T>(config, SmallKernels{}), streams, tokens, before};
}

}  // namespace

TEST_CASE("Gradients over ranks are those of one", "[ranks]") {
    auto remembering = texts_of<double>(small_remembering, 2, 157, 41);
    check_ranks(remembering, {1, 2, 3, 4});
    remembering.keep = Keep::block_inputs;
    check_ranks(remembering, {3});
    check_ranks(texts_of<double>(small_remembering, 1, 96, 0), {2, 4});
    check_ranks(texts_of<float>(small_remembering, 1, 157, 20), {3});
    check_ranks(texts_of<double>(small_full, 1, 131, 70), {2, 3});
    check_ranks(texts_of<float>(small_full, 2, 131, 0), {4});
    HydraConfig config = small_hybrid;
    config.dn_negative_eigenvalues = true;
    config.dn_use_gate = false;
    check_ranks(texts_of<double>(config, 1, 5, 3), {2, 4, 5});  // runs below a window and K - 1
}

TEST_CASE("Gradients over ranks with few chunks of many", "[ranks]") {
    HydraConfig config = small_remembering;
    config.retrieval_top_k = 2;
    check_ranks(texts_of<double>(config, 1, 1000, 17), {3});  // two groups of chunks
}

TEST_CASE("Gradients over ranks of a model whose shape is its type", "[ranks]") {
    using Model = HydraLM<small_trained, float>;
    Texts<Model> texts(Model(), 2, 67, 11);
    check_ranks(texts, {2, 3});
    texts.keep = Keep::block_inputs;
    check_ranks(texts, {2});
}

TEST_CASE("What a rank sends for the gradient of a text does not grow with it", "[ranks]") {
    HydraConfig config = small_hybrid;
    config.swa_every = 4;  // no window in three layers
    const Index I = config.d_model, H = config.n_heads, D = I / H, layers = config.n_layers,
                cache = round_up((config.dn_short_conv_kernel - 1) * 3 * I, 16),
                each = layers * (H * D * D + cache) * Index{sizeof(float)};
    for (const Index tokens : {40, 400}) {
        const auto texts = texts_of<float>(config, 1, tokens, 0);
        std::vector<Index> sent(3);
        on_ranks(3, [&](Ranks& ranks) {
            GradientsOverRanks<RuntimeModel<float>> gradients(texts.model, 1, tokens, ranks);
            gradients.refresh(texts.model);
            BatchStates states(texts.model, 1);
            const Index begin = ranks.traffic().bytes_sent;
            gradients.add(texts.model, texts.ids, texts.labels, states, texts.scale());
            sent[static_cast<std::size_t>(ranks.rank())] = ranks.traffic().bytes_sent - begin;
        });
        // Rank 0 sends states, the last one their gradients, and all the same of facts and losses.
        CHECK(sent[0] == sent[2]);
        CHECK(sent[1] - sent[0] == each);
    }
}

TEST_CASE("What passes of a layer need not be whole words", "[ranks]") {
    constexpr PageLayout layout{
        .chunk_tokens = 4,
        .kinds = {PageKind{.chunks = 1, .kept = Kept::whole, .bytes = {12, 12, 12}}}};
    const std::vector<LayerState> layers{{{0, 0}, {64, 1}}};
    std::array<std::string, 2> pages;
    on_ranks(2, [&](Ranks& ranks) {
        AlignedBuffer<std::byte> bytes(64);
        PageBank bank(layout);
        bank.reserve(0, 8);
        const std::span page(reinterpret_cast<char*>(bank.pages(0).page(0)), 12);
        if (ranks.rank() == 0) std::ranges::copy(std::string("twelve bytes"), page.begin());
        const Stream stream{bytes.data(), 4 * ranks.rank(), &bank};
        StatePass pass(ranks, StatePass::Way::forward, layers, Streams(&stream, 1),
                       4 * ranks.rank(), 4 * ranks.rank() + 4);
        pass.before(0);
        pass.after(0);
        pages[static_cast<std::size_t>(ranks.rank())] = {page.begin(), page.end()};
    });
    CHECK(pages == std::array<std::string, 2>{"twelve bytes", "twelve bytes"});
}

TEST_CASE("Gradients over ranks are refused on every rank", "[ranks]") {
    const auto texts = texts_of<float>(small_remembering, 1, 30, 0);
    using Model = RuntimeModel<float>;
    const auto refused = [&](int count, const std::string& part, const auto& f) {
        std::vector<std::string> said(static_cast<std::size_t>(count));
        on_ranks(count, [&](Ranks& ranks) {
            attempt([&] { f(ranks); },
                    [&](const Error& error) {
                        said[static_cast<std::size_t>(ranks.rank())] = error.what();
                    });
        });
        for (const std::string& text : said) {
            INFO(text);
            CHECK(text.find(part) != std::string::npos);
        }
    };
    const auto add = [&](Ranks& ranks, std::vector<token_id> ids, std::vector<token_id> labels,
                         Index streams = 1) {
        GradientsOverRanks<Model> gradients(texts.model, 1, 30, ranks);
        gradients.refresh(texts.model);
        BatchStates states(texts.model, streams);
        gradients.add(texts.model, ids, labels, states, 1.0);
    };
    refused(3, "text: expected at least a token for each of 3 ranks, found 2",
            [&](Ranks& ranks) { GradientsOverRanks<Model>(texts.model, 1, 2, ranks); });
    refused(2, "rank 1: tokens: expected 30, found 31", [&](Ranks& ranks) {
        GradientsOverRanks<Model>(texts.model, 1, 30 + ranks.rank(), ranks);
    });
    refused(2, "rank 1: tokens, CRC-32: expected", [&](Ranks& ranks) {
        auto ids = texts.ids;
        ids[3] = (ids[3] + ranks.rank()) % 53;
        add(ranks, ids, texts.labels);
    });
    refused(2, "rank 1: scale: expected 1.0, found 2.0", [&](Ranks& ranks) {
        GradientsOverRanks<Model> gradients(texts.model, 1, 30, ranks);
        BatchStates states(texts.model, 1);
        gradients.add(texts.model, texts.ids, texts.labels, states, 1.0 + ranks.rank());
    });
    refused(2, "rank 1: weights, CRC-32: expected", [&](Ranks& ranks) {
        GradientsOverRanks<Model> gradients(texts.model, 1, 30, ranks);
        BatchStates states(texts.model, 1);
        Model model(small_remembering, SmallKernels{});
        initialise(model, 5 + static_cast<std::uint64_t>(ranks.rank()), InitScheme::fan_in);
        gradients.add(model, texts.ids, texts.labels, states, 1.0);
    });
    refused(2, "token 29: expected an id in [0, 53), found 53", [&](Ranks& ranks) {
        auto ids = texts.ids;
        ids.back() = 53;
        add(ranks, ids, texts.labels);
    });
    refused(2, "label 2: expected", [&](Ranks& ranks) {
        auto labels = texts.labels;
        labels[2] = -1;
        add(ranks, texts.ids, labels);
    });
    refused(2, "rank 1: tokens: expected 1 streams of 30, found 2 streams",
            [&](Ranks& ranks) { add(ranks, texts.ids, texts.labels, 1 + ranks.rank()); });
    HydraConfig config = small_remembering;
    config.mtp_depth = 1;
    const Model drafting(config, SmallKernels{});
    refused(2, "mtp_depth: expected 0, for texts that are cut over ranks, found 1",
            [&](Ranks& ranks) { GradientsOverRanks<Model>(drafting, 1, 30, ranks); });
}
