// Banks in a file: the bits of banks on the heap, bounded residency, a full disk, nothing left
// behind.
#include "hydralm/state/mapped_pages.hpp"

#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "hydralm/io.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_remembering>;
constexpr Index budget = Index{4} << 20;

// Bytes of banks' files that are resident in this process.
std::int64_t resident_bank_bytes() {
    std::ifstream maps("/proc/self/smaps");
    std::int64_t sum = 0;
    bool bank = false;
    for (std::string line; std::getline(maps, line);) {
        if (line.find('-') < line.find(' ')) bank = line.find("hydralm-bank-") != std::string::npos;
        if (bank && line.starts_with("Rss:")) sum += 1024 * std::stoll(line.substr(4));
    }
    return sum;
}

// Of the disk, in whole 64 KiB: what a file system keeps beside them does not count.
Index disk_of(const MappedPages& pages) { return pages.file_bytes() >> 16 << 16; }

// No file of this process may grow beyond a size, for as long as this lives.
class FullDisk {
public:
    explicit FullDisk(rlim_t bytes) {
        handler_ = std::signal(SIGXFSZ, SIG_IGN);
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit narrow{bytes, before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &narrow);
    }
    FullDisk(const FullDisk&) = delete;
    FullDisk& operator=(const FullDisk&) = delete;
    ~FullDisk() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit before_{};
    void (*handler_)(int);
};

}  // namespace

TEST_CASE("A mapped bank has the bits of one in memory", "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(1);
    const auto tokens = random_tokens(1500, 53, 1);
    const auto pages = std::make_shared<MappedPages>(directory.path(), budget);
    auto memory = model.new_state(), mapped = model.new_state(256, {.pages = pages});
    CHECK(same_bits(logits_in_pieces(model, memory, slice(tokens, 0, 1000)),
                    logits_in_pieces(model, mapped, slice(tokens, 0, 1000))));
    CHECK(same_state(memory, mapped));
    CHECK(std::filesystem::is_empty(directory.path()));  // it has no name

    // A fork shares what was written before; both go their own ways.
    auto fork = mapped;
    const auto disk = disk_of(*pages);
    CHECK(disk >= Index{1} << 20);
    auto other = memory;
    CHECK(same_bits(logits_by_step(model, fork, slice(tokens, 1000, 40)),
                    logits_by_step(model, other, slice(tokens, 1000, 40))));
    CHECK(same_bits(logits_in_pieces(model, mapped, slice(tokens, 1000, 500)),
                    logits_in_pieces(model, memory, slice(tokens, 1000, 500))));
    CHECK(same_state(fork, other));
    CHECK(same_state(mapped, memory));
    CHECK(disk_of(*pages) == disk);  // one segment for both

    auto restored = model.new_state(256, {.pages = pages});
    restored.restore(memory.bytes(), memory.bank_bytes(), memory.position());
    CHECK(same_state(restored, memory));
}

TEST_CASE("Steps write into the page that is there", "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(7);
    const auto pages = std::make_shared<MappedPages>(directory.path(), budget);
    auto state = model.new_state(8, {.pages = pages});
    for (const token_id token : random_tokens(8000, 53, 7)) model.step(token, state);
    CHECK(state.size() < Index{8} << 20);
    CHECK(disk_of(*pages) == Index{16} << 20);  // a segment: no page was copied
}

TEST_CASE("States of every policy go on from a file, and from no other policy's",
          "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto path = directory / "state";
    const auto model = random_model<Model>(6);
    const auto tokens = random_tokens(1300, 53, 6);
    for (const BankPolicy& policy : bank_policies()) {
        BankPolicy in_file = policy;
        in_file.pages = std::make_shared<MappedPages>(directory.path(), budget);
        auto memory = model.new_state(256, policy), mapped = model.new_state(256, in_file);
        model.prefill(slice(tokens, 0, 1100), memory);
        model.prefill(slice(tokens, 0, 1100), mapped);
        CHECK(same_state(memory, mapped));
        save_state(model, mapped, path);
        auto resumed = load_state(model, path, policy);
        CHECK(same_state(resumed, memory));
        CHECK(same_bits(logits_in_pieces(model, resumed, slice(tokens, 1100, 200)),
                        logits_in_pieces(model, memory, slice(tokens, 1100, 200))));
        check_error([&] { load_state(model, path, {.exact_chunks = 9, .pooled_chunks = 9}); },
                    {path.string(), "bank: expected", "give load_state the BankPolicy"});
        CHECK(load_state(model, path, policy, 8).tile() == 8);
    }
}

TEST_CASE("A stream that reads a part of the past goes on from a file, and from none that read all",
          "[mapped_pages]") {
    using Full = HydraLM<small_full>;
    const TemporaryDirectory directory;
    const auto path = directory / "state";
    const auto model = random_model<Full>(6);
    const auto tokens = random_tokens(900, 53, 6);
    const BankPolicy few{.sparse = {.chunks = 2}}, fewer{.sparse = {.chunks = 1, .recent = 0}};
    BankPolicy in_file = few;
    in_file.pages = std::make_shared<MappedPages>(directory.path(), budget);
    auto memory = model.new_state(256, few), mapped = model.new_state(256, in_file);
    model.prefill(slice(tokens, 0, 700), memory);
    model.prefill(slice(tokens, 0, 700), mapped);
    CHECK(same_state(memory, mapped));
    save_state(model, mapped, path);
    auto resumed = load_state(model, path, few);
    CHECK(same_state(resumed, memory));
    CHECK(same_bits(logits_in_pieces(model, resumed, slice(tokens, 700, 200)),
                    logits_in_pieces(model, memory, slice(tokens, 700, 200))));
    CHECK(load_state(model, path, fewer).position() == 700);  // how many it reads is free
    check_error([&] { load_state(model, path); }, {path.string(), "bank: expected nothing"});
    auto all = model.new_state(256);
    model.prefill(slice(tokens, 0, 700), all);
    save_state(model, all, path);
    check_error([&] { load_state(model, path, few); },
                {path.string(), "bank: expected", "give load_state the BankPolicy"});
}

TEST_CASE("What is resident of a mapped bank stays within its budget", "[mapped_pages]") {
    constexpr HydraConfig config{.vocab_size = 53,
                                 .d_model = 64,
                                 .n_layers = 1,
                                 .n_heads = 1,
                                 .mlp_multiple_of = 8,
                                 .layer_types = LayerTypes{LayerType::retrieval},
                                 .retrieval_chunk_size = 32,
                                 .retrieval_top_k = 2};
    using Wide = HydraLM<config>;
    const TemporaryDirectory directory;
    const auto model = random_model<Wide>(2);
    const auto pages = std::make_shared<MappedPages>(directory.path(), budget);
    auto state = model.new_state(8, {.pages = pages});
    std::int64_t most = 0;
    for (int i = 0; i < 40; ++i) {
        model.prefill(random_tokens(1024, 53, static_cast<std::uint64_t>(i)), state,
                      Form::parallel);
        most = std::max(most, resident_bank_bytes());
    }
    CHECK(state.size() > 5 * budget);
    CHECK(most > 0);
    CHECK(most <= budget);

    // Neither do saving, loading and looking at it bring in more.
    const auto path = directory / "state";
    test::forget_peak();
    const auto held = test::held_bytes();
    save_state(model, state, path);
    CHECK(test::peak_bytes() - held < 100000);
    CHECK(resident_bank_bytes() <= budget);
    CHECK(state.bank_bytes().size() > 5 * budget);
    CHECK(resident_bank_bytes() <= budget);
    model.export_state(state, [&](const std::string&, const auto&, const auto&) {
        CHECK(resident_bank_bytes() <= budget);
    });
    const auto loaded = load_state(model, path, {.pages = pages});
    CHECK(resident_bank_bytes() <= budget);
    CHECK(same_state(loaded, state));
}

TEST_CASE("What fits a mapped bank's budget stays resident", "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(8);
    const auto pages = std::make_shared<MappedPages>(directory.path(), Index{17} << 20);
    auto state = model.new_state(256, {.pages = pages});
    model.prefill(random_tokens(20000, 53, 8), state);
    const auto resident = resident_bank_bytes();
    CHECK(resident > Index{4} << 20);
    for (int i = 0; i < 40; ++i) model.prefill(random_tokens(256, 53, 9), state);
    CHECK(resident_bank_bytes() >= resident);
    CHECK(disk_of(*pages) == Index{16} << 20);
}

TEST_CASE("Pages that forks give back are used again, clean", "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(9);
    const auto tokens = random_tokens(2000, 53, 9);
    const auto pages = std::make_shared<MappedPages>(directory.path(), budget);
    auto trunk = model.new_state(8, {.pages = pages}), expected = model.new_state(8);
    model.prefill(tokens, trunk);
    model.prefill(tokens, expected);
    const auto disk = disk_of(*pages);
    for (int i = 0; i < 2000; ++i) {
        auto fork = trunk;
        model.prefill(slice(tokens, 0, 40), fork);
    }
    CHECK(disk_of(*pages) == disk);
    auto fork = trunk;
    CHECK(same_bits(logits_in_pieces(model, fork, tokens),
                    logits_in_pieces(model, expected, tokens)));
    CHECK(same_state(fork, expected));

    // Nor do pages used again come in beyond the budget: those of a long stream that went, beside
    // one page that stays in each segment.
    {
        std::vector<std::shared_ptr<std::byte>> taken, kept;
        constexpr Index page = Index{1} << 16;
        for (int i = 0; i < 600; ++i) taken.push_back(pages->take(page));
        for (std::size_t i = 0; i < 600; i += 100) kept.push_back(taken[i]);
        taken.clear();
        for (int i = 0; i < 550; ++i) {
            taken.push_back(pages->take(page));
            CHECK(std::count(taken.back().get(), taken.back().get() + page, std::byte{0}) == page);
            if (i % 50 == 49) CHECK(resident_bank_bytes() <= budget + 2 * page);
            std::fill_n(taken.back().get(), page, std::byte{1});
        }
    }
    CHECK(disk_of(*pages) <= 2 * disk);

    // Also by banks with pages of another size.
    auto narrow = model.new_state(8, {.pages = pages, .format = BankFormat::int8});
    for (int i = 0; i < 200; ++i) {
        auto one = trunk, other = narrow;
        model.step(3, one);
        model.step(3, other);
    }
    CHECK(disk_of(*pages) <= 3 * disk);
}

TEST_CASE("Streams of many threads share mapped pages", "[mapped_pages][threads]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(10);
    const auto tokens = random_tokens(1200, 53, 10);
    const auto past = slice(tokens, 0, 1000), rest = slice(tokens, 1000, 200);
    const auto pages = std::make_shared<MappedPages>(directory.path(), Index{1} << 20);
    auto trunk = model.new_state(8, {.pages = pages}), memory = model.new_state(8);
    model.prefill(past, trunk);
    model.prefill(past, memory);
    const auto expected = logits_in_pieces(model, memory, rest);
    std::vector<int> same(4, 0);
    std::vector<std::thread> workers;
    for (int& own : same)
        workers.emplace_back([&] {
            for (int i = 0; i < 6; ++i) {
                auto fork = trunk;  // pages are shared, taken, given back and let go of by all
                own += same_bits(logits_in_pieces(model, fork, rest), expected) ? 1 : 0;
            }
        });
    for (std::thread& worker : workers) worker.join();
    CHECK(same == std::vector<int>(4, 6));
    CHECK(same_bits(logits_in_pieces(model, trunk, rest), expected));
}

TEST_CASE("A file does not grow with streams that went", "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto pages = std::make_shared<MappedPages>(directory.path(), Index{64} << 20);
    constexpr Index large = Index{20} << 20;
    const auto resident = [&] {  // of a page that was written, what stays when others are used
        const auto page = pages->take(large);
        std::fill_n(page.get(), large, std::byte{1});
        pages->expect(Index{1} << 30);
        return resident_bank_bytes() >= large;
    };
    for (int i = 0; i < 20; ++i) CHECK(resident());
    const FullDisk full(Index{100} << 20);  // no file beyond this
    for (int i = 0; i < 20; ++i) CHECK(resident());
}

TEST_CASE("A full disk is an error; the stream goes on when there is room again",
          "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(3);
    const auto tokens = random_tokens(300, 53, 3);
    const auto pages = std::make_shared<MappedPages>(directory.path(), budget);
    auto state = model.new_state(256, {.pages = pages}), expected = model.new_state();
    {
        const FullDisk full(Index{20} << 20);  // room for the first segment
        try {
            model.prefill(random_tokens(80000, 53, 5), state);
            FAIL("accepted");
        } catch (const Error& error) {
            CHECK(error.detail().field == "bank");
            CHECK(std::string(error.what()).find("hydralm-bank-") != std::string::npos);
        }
    }
    CHECK(state.position() == 0);
    CHECK(same_bits(model.prefill(tokens, state), model.prefill(tokens, expected)));
}

TEST_CASE("Mapped pages give their disk back, and refuse what cannot be", "[mapped_pages]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Model>(4);
    const auto pages = std::make_shared<MappedPages>(directory.path(), budget);
    {
        auto state = model.new_state(256, {.pages = pages});
        model.prefill(random_tokens(5000, 53, 4), state);
        CHECK(disk_of(*pages) >= state.size() / 2);
    }
    CHECK(disk_of(*pages) <= Index{1} << 24);  // the segment that would be filled next
    const auto small = std::make_shared<MappedPages>(directory.path(), Index{1} << 20);
    CHECK_THROWS_AS(MappedPages(directory.path() / "none", budget), Error);
    CHECK_THROWS_AS(MappedPages(directory.path(), 1000), Error);
    constexpr HydraConfig wide{.vocab_size = 53,
                               .d_model = 64,
                               .n_layers = 1,
                               .n_heads = 1,
                               .layer_types = LayerTypes{LayerType::retrieval},
                               .retrieval_chunk_size = 4096};
    check_error([&] { HydraLM<wide>::new_memory({.pages = small}); },
                {"budget: expected at least a chunk, 2113536 bytes, found 1048576"});
}
