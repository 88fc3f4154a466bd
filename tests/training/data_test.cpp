// Text as training data: what is read, how it is divided, and batches that one number resumes.
#include <fstream>
#include <map>
#include <set>

#include "hydralm/training/text_source.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

std::string text_of(std::span<const token_id> tokens) {
    std::string text;
    for (const token_id token : tokens) text += static_cast<char>(token);
    return text;
}
std::string text_of(TextCorpus::Text bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const token_id> row(const std::vector<token_id>& all, Index b, Index length) {
    return std::span(all).subspan(static_cast<std::size_t>(b * length),
                                  static_cast<std::size_t>(length));
}

}  // namespace

TEST_CASE("A corpus is all files below its folders, each text once", "[data]") {
    const TemporaryDirectory folder;
    std::filesystem::create_directories(folder / "a");
    std::filesystem::create_directories(folder / ".hidden");
    write_text(folder / "b.txt", "second");
    write_text(folder / "c.txt", "second");
    write_text(folder / "a/x.txt", "first");
    write_text(folder / "empty", "");
    write_text(folder / ".hidden/y.txt", "never");
    const TextCorpus corpus({folder.path().string()});
    REQUIRE(corpus.texts().size() == 2);
    CHECK(text_of(corpus.texts()[0]) == "first");
    CHECK(text_of(corpus.texts()[1]) == "second");
    CHECK(corpus.size() == 11);
    CHECK_THROWS_WITH(TextCorpus({(folder / "none").string()}), containing("none"));
    CHECK_THROWS_WITH(TextCorpus({(folder / ".hidden/z").string()}), containing("z"));
}

TEST_CASE("Small files take no map, no open file, and are the same bytes", "[data]") {
    const TemporaryDirectory folder;
    for (int i = 0; i < 500; ++i)
        write_text(folder / std::to_string(1000 + i), std::string(200, 'a') + std::to_string(i));
    write_text(folder / "2000", std::string(100'000, 'b'));
    const auto count = [](const char* what) {
        std::ifstream maps("/proc/self/maps");
        std::ptrdiff_t lines = 0;
        for (std::string line; std::getline(maps, line);) lines += line.find(what) != line.npos;
        return lines;
    };
    const auto files = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
    };
    const auto files_before = files();
    const TextCorpus corpus({folder.path().string()});
    CHECK(files() == files_before);
    CHECK(count(folder.path().c_str()) == 1);  // the large one
    REQUIRE(corpus.texts().size() == 501);
    CHECK(text_of(corpus.texts()[7]) == std::string(200, 'a') + "7");
    CHECK(corpus.texts()[500].size() == 100'000);
}

TEST_CASE("A share of the bytes is held out, in whole pieces, whatever the files", "[data]") {
    const TemporaryDirectory folder;
    std::string all;  // numbers, so that every place is a text of its own
    for (int i = 0; std::ssize(all) < 200'000; ++i) all += std::to_string(1'000'000 + i);
    all.resize(200'000);
    const std::vector<std::vector<std::size_t>> corpora{
        {200'000},                            // one file
        {150'000, 25'000, 20'000, 3000, 50},  // a large one, and one that is never read
        std::vector<std::size_t>(100, 2000),  // one piece each, or two
        {199'999, 1},
        {5000, 50},  // too small for two pieces
        {1101}};
    for (const auto& sizes : corpora) {
        std::filesystem::remove_all(folder / "c");
        std::filesystem::create_directories(folder / "c");
        std::size_t begin = 0, long_ones = 0;
        for (const std::size_t size : sizes) {
            write_text(folder / "c" / std::to_string(1'000'000 + begin), all.substr(begin, size));
            begin += size;
            long_ones += size > 1000 ? size : 0;
        }
        const TextCorpus corpus({(folder / "c").string()});
        for (const std::uint64_t seed : {0, 1, 2}) {
            INFO(sizes.size() << " files, the first of " << sizes[0] << " bytes, seed " << seed);
            const auto [training, held_out] = corpus.split(0.05, seed, 1000);
            CHECK(training.size() + held_out.size() == static_cast<Index>(begin));
            CHECK(std::abs(static_cast<double>(held_out.size()) -
                           0.05 * static_cast<double>(long_ones)) <= 1001);
            std::map<const std::byte*, const std::byte*> places;  // of all texts: none overlap
            for (const auto* part : {&training, &held_out})
                for (const auto& text : part->texts())
                    CHECK(places.emplace(text.data(), text.data() + text.size()).second);
            for (auto place = places.begin(); std::next(place) != places.end(); ++place)
                CHECK(place->second <= std::next(place)->first);
            for (const auto& text : training.texts())  // no remnant that is not read
                CHECK((text.size() > 1000 || text.size() <= 50));
            CHECK(text_of(corpus.split(0.05, seed, 1000).second.texts()[0]) ==
                  text_of(held_out.texts()[0]));
        }
    }
}

TEST_CASE("What is held out comes from everywhere, another seed's from elsewhere", "[data]") {
    const TemporaryDirectory folder;
    write_text(folder / "1", std::string(1'000'000, 'a'));
    const TextCorpus corpus({(folder / "1").string()});
    const std::byte* const begin = corpus.texts()[0].data();
    std::array<std::set<std::ptrdiff_t>, 2> places;
    for (const std::uint64_t seed : {0, 1}) {
        const auto held_out = corpus.split(0.05, seed).second;
        CHECK(held_out.size() > 49'000);
        CHECK(held_out.size() < 51'000);
        std::array<Index, 4> quarters{};
        for (const auto& text : held_out.texts()) {
            places[seed].insert(text.data() - begin);
            quarters[static_cast<std::size_t>((text.data() - begin) / 250'000)] +=
                static_cast<Index>(text.size());
        }
        for (const Index bytes : quarters) CHECK(bytes > 5'000);  // of 12'500, σ = 1'500
    }
    CHECK(places[0] != places[1]);
}

TEST_CASE("A corpus too small for two parts is refused, naming the held-out one", "[data]") {
    const TemporaryDirectory folder;
    write_text(folder / "1", "seventeen letters");
    const TextCorpus corpus({(folder / "1").string()});
    const auto [training, held_out] = corpus.split(0.05, 1, 8);
    CHECK(text_of(training.texts()[0]) == "seventeen lette");
    CHECK(text_of(held_out.texts()[0]) == "rs");
    CHECK_THROWS_WITH(corpus.split(0.05, 1, 16),
                      containing("held-out part: expected 2 bytes for it") && containing("17"));
    CHECK_THROWS_WITH(corpus.split(0.99, 1), containing("held-out part"));
    CHECK_THROWS_WITH(corpus.split(1.0, 1), containing("a fraction in (0, 1)"));
    CHECK_THROWS_WITH(corpus.split(0.1, 1, 0), containing("at least 1 byte"));
    write_text(folder / "1", "a");
    CHECK_THROWS_WITH(TextCorpus({(folder / "1").string()}).split(0.5, 1),
                      containing("held-out part"));
}

TEST_CASE("Random windows lie in one text, and one number resumes them", "[data]") {
    const TemporaryDirectory folder;
    write_text(folder / "1", "abcdefghij");
    write_text(folder / "2", "ABC");  // shorter than a window
    write_text(folder / "3", "0123456");
    RandomWindows source(TextCorpus({folder.path().string()}), 3, 4, 5);
    std::map<std::string, int> drawn;
    Batch batch, again;
    for (int i = 0; i < 2000; ++i) {
        source.next(batch);
        REQUIRE(batch.fresh);
        for (Index b = 0; b < 3; ++b) {
            const std::string tokens = text_of(row(batch.tokens, b, 4));
            const std::string labels = text_of(row(batch.labels, b, 4));
            CHECK(labels.substr(0, 3) == tokens.substr(1));
            ++drawn[tokens + labels.back()];
        }
    }
    CHECK(drawn.size() == 6 + 3);  // 10 − 4 and 7 − 4 windows
    for (const auto& [window, count] : drawn) {
        INFO(window);
        CHECK((std::string("abcdefghij").find(window) != std::string::npos ||
               std::string("0123456").find(window) != std::string::npos));
        CHECK(count > 500);  // 667 expected, σ = 24
        CHECK(count < 840);
    }
    CHECK(source.position() == 2000);
    RandomWindows other(TextCorpus({folder.path().string()}), 3, 4, 5);
    other.seek(1999);
    other.next(again);
    CHECK(again.tokens == batch.tokens);
    CHECK(again.labels == batch.labels);
    CHECK_THROWS_WITH(RandomWindows(TextCorpus({folder.path().string()}), 1, 10, 1),
                      containing("at least 11 bytes") && containing("at most 10"));
    CHECK_THROWS_WITH(RandomWindows(TextCorpus({folder.path().string()}), 0, 10, 1),
                      containing("at least 1 stream"));
}

namespace {

// Two bytes a token, so that ids go beyond a byte; the last byte of an odd text is left out.
struct PairTokenizer {
    Index vocab_size() const { return 65536; }
    std::vector<token_id> encode(std::string_view text) const {
        std::vector<token_id> ids;
        for (std::size_t i = 0; i + 1 < text.size(); i += 2)
            ids.push_back(256 * static_cast<unsigned char>(text[i]) +
                          static_cast<unsigned char>(text[i + 1]));
        return ids;
    }
    std::string decode(std::span<const token_id>) const { return {}; }
    std::string_view text(token_id) const { return {}; }
};

}  // namespace

TEST_CASE("Random windows of the ids of a tokenizer", "[data]") {
    const TemporaryDirectory folder;
    write_text(folder / "1", "abcdefghijk");
    write_text(folder / "2", "AB");
    const TextCorpus text({folder.path().string()});
    const TokenCorpus corpus = [&] {
        const TokenCorpus made(text, PairTokenizer());
        return made;  // the ids stay where they are
    }();
    REQUIRE(corpus.texts().size() == 2);
    CHECK(corpus.size() == 5 + 1);
    CHECK(corpus.longest() == 5);
    CHECK(corpus.texts()[0][1] == 256 * 'c' + 'd');
    RandomTokenWindows source(corpus, 2, 3, 1);
    Batch batch;
    for (int i = 0; i < 20; ++i) {
        source.next(batch);
        for (std::size_t n = 0; n < 6; ++n) {
            CHECK(batch.labels[n] - batch.tokens[n] == 2 * 257);
            CHECK(batch.tokens[n] >= 256 * 'a' + 'b');
        }
    }
    CHECK_THROWS_WITH(RandomTokenWindows(corpus, 1, 5, 1),
                      containing("at least 6 tokens") && containing("at most 5"));
}

TEST_CASE("Consecutive chunks are the text in order, across its files", "[data]") {
    const TemporaryDirectory folder;
    write_text(folder / "1", "abcde");
    write_text(folder / "2", "f");
    write_text(folder / "3", "ghijklmnopqrstu");
    ConsecutiveChunks source(TextCorpus({folder.path().string()}), 2, 3);
    CHECK(source.chunks_per_pass() == 3);  // parts of 10: "abcdefghij", "klmnopqrst"
    std::array<std::string, 2> tokens, labels;
    Batch batch;
    for (int i = 0; i < 3; ++i) {
        source.next(batch);
        CHECK(batch.fresh == (i == 0));
        for (std::size_t b = 0; b < 2; ++b) {
            tokens[b] += text_of(row(batch.tokens, static_cast<Index>(b), 3));
            labels[b] += text_of(row(batch.labels, static_cast<Index>(b), 3));
        }
    }
    CHECK(tokens == std::array<std::string, 2>{"abcdefghi", "klmnopqrs"});
    CHECK(labels == std::array<std::string, 2>{"bcdefghij", "lmnopqrst"});
    source.next(batch);
    CHECK(batch.fresh);
    CHECK(text_of(row(batch.tokens, 0, 3)) == "abc");
    source.seek(2);
    source.next(batch);
    CHECK(text_of(row(batch.tokens, 1, 3)) == "qrs");
    CHECK_THROWS_WITH(ConsecutiveChunks(TextCorpus({folder.path().string()}), 5, 5),
                      containing("26 bytes") && containing("found 21"));
}
