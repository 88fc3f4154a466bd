// RULER's harder tasks and state tracking: what their sequences hold, by oracles made here.
#include <cmath>
#include <map>
#include <set>

#include "hydralm/evaluation.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

std::vector<token_id> tokens_of(const TaskSequence& sequence) {
    std::vector<token_id> tokens(static_cast<std::size_t>(sequence.length()), -1);
    sequence.fill(0, tokens);
    return tokens;
}

TaskSequence example(TaskKind kind, const TaskShape& shape, std::uint64_t index = 0) {
    return {kind, shape, Split::training, 3, index};
}

void check_long_keys(const TaskShape& shape, std::uint64_t index, Index trailer = 0) {
    const TaskSequence sequence(TaskKind::multikey, shape, Split::training, 3, index, trailer);
    const auto tokens = tokens_of(sequence);
    const Index m = shape.key_tokens, end = sequence.trailer();
    std::map<std::vector<token_id>, token_id> facts;
    std::set<token_id> ids;
    Index t = end % (m + 3);
    for (Index i = 0; i < t; ++i) CHECK(tokens[static_cast<std::size_t>(i)] < shape.vocab / 2);
    for (; t < end; t += m + 3) {
        const auto at = tokens.begin() + t;
        CHECK(at[0] == shape.vocab - 4);
        CHECK(at[m + 1] == shape.vocab - 3);
        CHECK((at[m + 2] >= shape.vocab / 2 && at[m + 2] < shape.vocab - 4));
        CHECK(facts.emplace(std::vector(at + 1, at + 1 + m), at[m + 2]).second);
        ids.insert(at + 1, at + 1 + m);
    }
    CHECK((*ids.begin() >= shape.vocab / 2 && *ids.rbegin() < shape.vocab - 4));
    if (shape.key_ids > 0) CHECK(static_cast<Index>(ids.size()) <= shape.key_ids);
    REQUIRE(static_cast<Index>(sequence.answers().size()) == shape.queries);
    std::set<std::vector<token_id>> asked;
    for (const TaskAnswer& answer : sequence.answers()) {
        const auto at = tokens.begin() + t;
        const std::vector key(at + 1, at + 1 + m);
        CHECK(at[0] == shape.vocab - 2);
        CHECK(asked.insert(key).second);
        CHECK(answer.position == t + m + 1);
        CHECK(facts.at(key) == answer.value);
        CHECK(at[m + 2] == answer.value);
        const Index place = std::lround(answer.depth * static_cast<double>(end));
        CHECK(std::equal(key.begin(), key.end(), tokens.begin() + place + 1));
        t += m + 3;
    }
    CHECK(t == shape.length);
}

// Facts `KEY k VAL v` among filler.
std::multimap<token_id, token_id> facts_in(const std::vector<token_id>& tokens,
                                           const TaskShape& shape, Index trailer) {
    std::multimap<token_id, token_id> facts;
    for (Index t = 0; t < trailer;) {
        const auto at = tokens.begin() + t;
        if (at[0] < shape.vocab / 2) {
            ++t;
            continue;
        }
        CHECK(at[0] == shape.vocab - 4);
        CHECK(at[2] == shape.vocab - 3);
        facts.emplace(at[1], at[3]);
        t += 4;
    }
    return facts;
}

// Element number of the permutations of n, in lexicographic order.
std::vector<int> permutation(int n, Index number) {
    std::vector<int> p;
    for (int i = 0; i < n; ++i) p.push_back(i);
    for (Index i = 0; i < number; ++i) std::next_permutation(p.begin(), p.end());
    return p;
}

}  // namespace

TEST_CASE("multikey: nothing but facts, keys of several tokens", "[task]") {
    for (const std::uint64_t index : {0, 1, 7}) {
        check_long_keys({.length = 40, .queries = 4}, index);
        check_long_keys({.length = 1023, .queries = 8, .key_ids = 16}, index);
        check_long_keys({.length = 500, .queries = 3, .vocab = 64, .key_tokens = 3}, index, 2);
        check_long_keys({.length = 120, .queries = 8, .vocab = 64, .key_tokens = 1}, index);
        check_long_keys({.length = 5 * (16 + 8), .queries = 8, .key_ids = 4}, index);  // every key
    }
    check_long_keys({.length = 65536, .queries = 8}, 0);
}

TEST_CASE("multivalue: all values of a key, in any order", "[task]") {
    for (const std::uint64_t index : {0, 1, 7}) {
        const TaskShape shape{.length = 400, .facts = 8, .queries = 5};
        const auto sequence = example(TaskKind::multivalue, shape, index);
        const auto tokens = tokens_of(sequence);
        const auto facts = facts_in(tokens, shape, sequence.trailer());
        CHECK(facts.size() == 32);
        REQUIRE(sequence.answers().size() == 5);
        std::map<Index, token_id> labels;
        sequence.for_each_label([&](Index t, token_id label) { labels[t] = label; });
        CHECK(labels.size() == 20);
        for (const TaskAnswer& answer : sequence.answers()) {
            const auto at = tokens.begin() + answer.position;
            CHECK(*at == 509);
            CHECK(answer.count == 4);
            std::set<token_id> stored;
            const auto [first, last] = facts.equal_range(at[-1]);
            for (auto fact = first; fact != last; ++fact) stored.insert(fact->second);
            CHECK(stored.size() == 4);
            CHECK(stored == std::set<token_id>(answer.values.begin(), answer.values.end()));
            for (Index i = 0; i < 4; ++i) {
                CHECK(at[i + 1] == answer.values[static_cast<std::size_t>(i)]);
                CHECK(labels.at(answer.position + i) == at[i + 1]);
            }
        }
    }
}

TEST_CASE("tracking: the end of a chain of facts", "[task]") {
    for (const Index hops : {1, 2, 4}) {
        const TaskShape shape{.length = 600, .facts = 8, .queries = 8, .hops = hops};
        const auto sequence = example(TaskKind::tracking, shape, 2);
        const auto tokens = tokens_of(sequence);
        const auto facts = facts_in(tokens, shape, sequence.trailer());
        CHECK(static_cast<Index>(facts.size()) == 8 * (hops + 1));
        std::set<token_id> ends;
        for (const TaskAnswer& answer : sequence.answers()) {
            token_id id = tokens[static_cast<std::size_t>(answer.position - 1)];
            for (Index hop = 0; hop < hops; ++hop) {
                REQUIRE(facts.count(id) == 1);
                id = facts.find(id)->second;
            }
            CHECK(id == answer.value);
            CHECK(facts.count(id) == 0);  // the chain ends there
            CHECK(ends.insert(id).second);
        }
    }
}

TEST_CASE("words: the three most frequent", "[task]") {
    for (const std::uint64_t index : {0, 1, 7}) {
        const auto sequence = example(TaskKind::words, {.length = 3000}, index);
        const auto tokens = tokens_of(sequence);
        CHECK(sequence.trailer() == 2996);
        std::map<token_id, int> counts;
        for (std::size_t t = 0; t < 2996; ++t) ++counts[tokens[t]];
        CHECK((counts.begin()->first >= 0 && counts.rbegin()->first < 256));
        std::vector<std::pair<int, token_id>> order;
        for (const auto& [word, count] : counts) order.emplace_back(-count, word);
        std::sort(order.begin(), order.end());
        CHECK(tokens[2996] == 510);
        for (std::size_t i = 0; i < 3; ++i) {
            const TaskAnswer& answer = sequence.answers()[i];
            CHECK(answer.position == static_cast<Index>(2996 + i));
            CHECK(answer.value == order[i].second);
            CHECK(tokens[2997 + i] == answer.value);
        }
        CHECK(std::abs(-order[0].first / 2996.0 - 0.61) < 0.05);  // 6/π²
    }
}

TEST_CASE("State tracking: the running product of all elements so far", "[task]") {
    for (const auto& [kind, n, size] :
         {std::tuple{TaskKind::parity, 2, 2}, {TaskKind::s3, 3, 6}, {TaskKind::s5, 5, 120}}) {
        const auto sequence = example(kind, {.length = 700, .vocab = 128}, 1);
        const auto tokens = tokens_of(sequence);
        REQUIRE(sequence.answers().size() == 700);
        CHECK(sequence.trailer() == 700);
        auto state = permutation(n, 0);
        std::set<token_id> seen;
        token_id sum = 0;
        for (std::size_t t = 0; t < 700; ++t) {
            REQUIRE((tokens[t] >= 0 && tokens[t] < size));
            seen.insert(tokens[t]);
            const auto next = permutation(n, tokens[t]);
            for (int& x : state) x = next[static_cast<std::size_t>(x)];
            const TaskAnswer& answer = sequence.answers()[t];
            CHECK(answer.position == static_cast<Index>(t));
            CHECK(permutation(n, answer.value) == state);
            sum += tokens[t];
            if (n == 2) CHECK(answer.value == sum % 2);
        }
        CHECK(static_cast<int>(seen.size()) > size * 9 / 10);
    }
}

TEST_CASE("Several values are right when they are the best, in any order", "[task]") {
    TaskAnswer answer{.value = 3, .count = 2, .values = {3, 1}};
    const auto right = [&](std::vector<float> logits) { return detail::best_are(answer, logits); };
    CHECK(right({0, 5, 1, 4}));
    CHECK(right({0, 4, 1, 5}));
    CHECK_FALSE(right({0, 5, 4.5F, 4}));
    CHECK_FALSE(right({6, 5, 1, 4}));
    answer = {.value = 2};
    CHECK(right({0, 5, 5.5F, 4}));
    CHECK_FALSE(right({0, 5.5F, 5.5F, 4}));  // of equal ones the first
}

TEST_CASE("Any piece of a harder sequence is that part of the whole", "[task]") {
    for (const TaskKind kind : {TaskKind::multikey, TaskKind::multivalue, TaskKind::tracking,
                                TaskKind::words, TaskKind::s3}) {
        const auto sequence = example(kind, {.length = 1500, .facts = 8, .queries = 4}, 4);
        const auto whole = tokens_of(sequence);
        for (const Index size : {3, 255, 256, 257, 1499})
            for (Index first = 0; first < 1500; first += size) {
                std::vector<token_id> piece(
                    static_cast<std::size_t>(std::min<Index>(size, 1500 - first)), -1);
                sequence.fill(first, piece);
                CHECK(std::equal(piece.begin(), piece.end(), whole.begin() + first));
            }
    }
}

TEST_CASE("A harder shape that is impossible is refused by its field", "[task]") {
    using K = TaskKind;
    for (const auto& [kind, shape, field] : std::vector<std::tuple<K, TaskShape, std::string>>{
             {K::multikey, {.length = 39, .queries = 4}, "length"},
             {K::multikey, {.length = 40, .queries = 5}, "length"},
             {K::multikey, {.length = 40, .queries = 0}, "queries"},
             {K::multikey, {.length = 40, .key_tokens = 4}, "key_tokens"},
             {K::multikey, {.length = 40, .key_ids = 253}, "key_ids"},
             {K::multikey, {.length = 130, .queries = 8, .key_ids = 4}, "length"},
             {K::multivalue, {.length = 400, .values = 5}, "values"},
             {K::multivalue, {.length = 22, .facts = 1}, "length"},
             {K::tracking, {.length = 4000, .facts = 51}, "facts"},
             {K::tracking, {.length = 400, .hops = 0}, "hops"},
             {K::words, {.length = 255}, "length"},
             {K::s5, {.length = 64, .vocab = 64}, "vocab"},
             {K::parity, {.length = 0, .vocab = 16}, "length"},
             {K::parity, {.length = (1 << 24) + 1, .vocab = 16}, "length"}}) {
        std::string message = "accepted";
        try {
            example(kind, shape);
        } catch (const Error& error) {
            message = error.what();
        }
        INFO(message);
        CHECK(message.find("hydralm: " + field) == 0);
        CHECK(message.find("expected") != std::string::npos);
    }
}

TEST_CASE("Stages give the options of their task", "[task]") {
    const TemporaryDirectory directory;
    const auto path = directory.path() / "stages.json";
    const auto shape = [&](TaskKind kind, const std::string& text) {
        write_text(path, text);
        return read_stages(path, kind, 512)[0].shape;
    };
    CHECK(shape(TaskKind::multikey, R"([{"length": 96, "queries": 8, "batch": 48, "steps": 9,
                                         "key_tokens": 3, "key_ids": 6}])") ==
          TaskShape{.length = 96, .queries = 8, .key_tokens = 3, .key_ids = 6});
    CHECK(shape(TaskKind::tracking, R"([{"length": 99, "facts": 2, "queries": 2, "batch": 48,
                                         "steps": 9, "hops": 3}])") ==
          TaskShape{.length = 99, .facts = 2, .queries = 2, .hops = 3});
    CHECK(shape(TaskKind::parity, R"([{"length": 8, "batch": 64, "steps": 100}])") ==
          TaskShape{.length = 8});
    CHECK_THROWS_AS(
        shape(TaskKind::parity, R"([{"length": 8, "facts": 1, "batch": 64, "steps": 100}])"),
        Error);
}

// What training runs and results of before depend on.
TEST_CASE("The sequences of a seed stay what they are", "[task]") {
    for (const auto& [kind, shape, expected] :
         {std::tuple{TaskKind::mqar, TaskShape{80, 30, 5, 512}, 0x570a7af963c62f0cULL},
          {TaskKind::needle, TaskShape{700, 3, 1, 64}, 0xe1efb3e8e9be3861ULL},
          {TaskKind::retrieval_qa, TaskShape{2000, 32, 8, 512}, 0xc447ed9bf193c3a3ULL}}) {
        std::uint64_t hash = 14695981039346656037ULL;
        const auto add = [&](auto x) {
            hash = (hash ^ static_cast<std::uint64_t>(x)) * 1099511628211ULL;
        };
        for (const Split split : {Split::training, Split::evaluation}) {
            const TaskSequence sequence(kind, shape, split, 3, 5, kind == TaskKind::needle ? 0 : 1);
            for (const token_id token : tokens_of(sequence)) add(token);
            for (const TaskAnswer& answer : sequence.answers()) {
                add(answer.value);
                add(answer.position);
            }
        }
        CHECK(hash == expected);
    }
}
