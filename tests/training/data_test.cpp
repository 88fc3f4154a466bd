// Text as training data: what is read, how it is divided, and batches that one number resumes.
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

TEST_CASE("Whole files are held out; of one file its end", "[data]") {
    const TemporaryDirectory folder;
    for (int i = 0; i < 20; ++i)
        write_text(folder / std::to_string(i), std::string(100, static_cast<char>('a' + i)));
    const TextCorpus corpus({folder.path().string()});
    const auto [training, held_out] = corpus.split(0.2, 3);
    CHECK(held_out.texts().size() == 4);
    CHECK(training.texts().size() == 16);
    std::set<std::string> seen;
    for (const auto* part : {&training, &held_out})
        for (const auto& text : part->texts()) CHECK(seen.insert(text_of(text)).second);
    CHECK(seen.size() == 20);
    CHECK(text_of(corpus.split(0.2, 3).second.texts()[0]) == text_of(held_out.texts()[0]));

    const TextCorpus one({(folder / "0").string()});
    const auto [begin, end] = one.split(0.05, 1);
    CHECK(begin.size() == 95);
    CHECK(end.size() == 5);
    CHECK_THROWS_WITH(one.split(1.0, 1), containing("held-out fraction"));
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
