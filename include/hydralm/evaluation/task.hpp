// The synthetic tasks: seeded sequences that ask for facts stored in them, piece by piece.
//
// MQAR (Arora et al., arXiv 2312.04927): `k v` pairs, then queries `k v`. Needle (Hsieh et al.,
// arXiv 2404.06654) and retrieval_qa: facts `KEY k VAL v` at random places of filler, then queries
// `QUERY k VAL v`. What is scored is the prediction of v, at the last token before it.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/random.hpp"

namespace HYDRALM_NAMESPACE {

enum class TaskKind : std::uint8_t { mqar, needle, retrieval_qa };

inline std::optional<TaskKind> task_kind(std::string_view name) noexcept {
    if (name == "mqar") return TaskKind::mqar;
    if (name == "needle") return TaskKind::needle;
    if (name == "retrieval_qa") return TaskKind::retrieval_qa;
    return std::nullopt;
}

// What a sequence holds: length tokens in all, the queries at the end; vocab V (retrieval_qa: 512).
struct TaskShape {
    Index length = 0;
    Index facts = 1;  // MQAR: pairs
    Index queries = 1;
    Index vocab = 512;
};

// A scored token: the prediction at position is value; depth in [0, 1): where its fact lies.
struct TaskAnswer {
    Index position = 0;
    token_id value = 0;
    double depth = 0.0;
};

// Which random stream a sequence comes from: no sequence of one is among the other's.
enum class Split : std::uint8_t { training, evaluation };

// One sequence, a function of all arguments alone. Holds its facts and queries, not its filler: any
// piece of it is made when it is asked for. trailer: which of the disjoint sets of queries about
// one haystack it ends with, below facts / queries.
class TaskSequence {
public:
    // Throws Error for a shape that is impossible.
    TaskSequence(TaskKind kind, const TaskShape& shape, Split split, std::uint64_t seed,
                 std::uint64_t index, Index trailer = 0)
        : shape_(shape), seed_(own_seed(kind, split, seed, index)) {
        check(kind, shape);
        if (trailer < 0 || (trailer + 1) * shape.queries > shape.facts)
            raise({.field = "trailer",
                   .expected = "at most " + std::to_string(shape.facts / shape.queries - 1),
                   .found = std::to_string(trailer),
                   .fix = "ask fewer queries, or store more facts"});
        Random random(seed_);
        if (kind == TaskKind::mqar) place_pairs(random, trailer * shape.queries);
        else place_facts(random, trailer * shape.queries);
    }

    Index length() const noexcept { return shape_.length; }
    // Where the queries begin.
    Index trailer() const noexcept { return trailer_; }
    std::span<const TaskAnswer> answers() const noexcept { return answers_; }

    // out = tokens [first, first + size).
    void fill(Index first, std::span<token_id> out) const {
        const auto end = first + static_cast<Index>(out.size());
        for (Index block = first / block_; block * block_ < end; ++block) {
            Random random(seed_, 1 + static_cast<std::uint64_t>(block));
            for (Index t = block * block_; t < std::min(end, (block + 1) * block_); ++t) {
                const auto token = filler(random);
                if (t >= first) out[static_cast<std::size_t>(t - first)] = token;
            }
        }
        auto segment = std::partition_point(segments_.begin(), segments_.end(), [&](const auto& s) {
            return s.position + s.count <= first;
        });
        for (; segment != segments_.end() && segment->position < end; ++segment)
            for (Index i = 0; i < segment->count; ++i)
                if (const Index t = segment->position + i; t >= first && t < end)
                    out[static_cast<std::size_t>(t - first)] =
                        segment->tokens[static_cast<std::size_t>(i)];
    }

    // Throws Error unless sequences of this shape exist.
    static void check(TaskKind kind, const TaskShape& s) {
        const auto require = [](bool good, const char* field, const std::string& expected,
                                Index found) {
            if (!good)
                raise({.field = field,
                       .expected = expected,
                       .found = std::to_string(found),
                       .fix = "give the task a shape that fits"});
        };
        const Index size = kind == TaskKind::mqar ? 2 : 4, low = s.vocab / 2;
        const Index keys = kind == TaskKind::mqar ? low : s.vocab - 4 - low;
        require(s.vocab >= 16 && s.vocab % 2 == 0, "vocab", "an even number from 16 on", s.vocab);
        require(kind != TaskKind::retrieval_qa || s.vocab == 512, "vocab", "512 for retrieval_qa",
                s.vocab);
        require(s.facts >= 1 && s.facts <= keys, "facts",
                "1 to " + std::to_string(keys) + ", the keys of the vocabulary", s.facts);
        require(s.queries >= 1 && s.queries <= s.facts, "queries",
                "1 to " + std::to_string(s.facts) + ", the facts", s.queries);
        require(s.length >= size * (s.facts + s.queries) && s.length < Index{1} << 40, "length",
                "at least " + std::to_string(size * (s.facts + s.queries)) +
                    ", what facts and queries take",
                s.length);
        require(
            kind != TaskKind::mqar || s.facts < keys || s.length == size * (s.facts + s.queries),
            "length", std::to_string(size * (s.facts + s.queries)) + " when every key is stored",
            s.length);
    }

private:
    struct Segment {
        Index position;
        Index count;
        std::array<token_id, 4> tokens;
    };
    static constexpr Index block_ = 256;  // filler tokens drawn from one random stream

    // Unlike that of any other sequence, whatever the seeds.
    static std::uint64_t own_seed(TaskKind kind, Split split, std::uint64_t seed,
                                  std::uint64_t index) noexcept {
        const std::uint64_t stream = 0x7461736b00ULL + 2 * static_cast<std::uint64_t>(kind) +
                                     static_cast<std::uint64_t>(split);
        Random random(seed, stream);
        return Random(random(), index)();
    }

    // count distinct numbers below bound, in random order (Floyd's sampling, then a shuffle).
    static std::vector<Index> distinct(Random& random, Index count, Index bound) {
        std::vector<Index> chosen;
        for (Index top = bound - count; top < bound; ++top) {
            const auto x = static_cast<Index>(random.below(static_cast<std::uint64_t>(top + 1)));
            const bool taken = std::find(chosen.begin(), chosen.end(), x) != chosen.end();
            chosen.push_back(taken ? top : x);
        }
        for (std::size_t i = chosen.size(); i > 1; --i)
            std::swap(chosen[i - 1], chosen[random.below(i)]);
        return chosen;
    }

    std::vector<Index> queried(Random& random, Index first) const {
        const auto order = distinct(random, shape_.facts, shape_.facts);
        return {order.begin() + first, order.begin() + first + shape_.queries};
    }

    // Queries are about facts first_query, … of a random order.
    void place_pairs(Random& random, Index first_query) {
        const Index half = shape_.vocab / 2;
        const auto keys = distinct(random, shape_.facts, half);
        std::vector<token_id> values;
        for (Index i = 0; i < shape_.facts; ++i) {
            values.push_back(static_cast<token_id>(
                half + static_cast<Index>(random.below(static_cast<std::uint64_t>(half)))));
            segments_.push_back(
                {2 * i,
                 2,
                 {static_cast<token_id>(keys[static_cast<std::size_t>(i)]), values.back()}});
        }
        for (Index k = 0; k < half; ++k)
            if (std::find(keys.begin(), keys.end(), k) == keys.end())
                filler_.push_back(static_cast<token_id>(k));
        if (filler_.empty()) filler_.push_back(0);  // no room for any
        trailer_ = shape_.length - 2 * shape_.queries;
        Index t = trailer_;
        for (const Index i : queried(random, first_query)) {
            const auto at = static_cast<std::size_t>(i);
            segments_.push_back({t, 2, {static_cast<token_id>(keys[at]), values[at]}});
            answers_.push_back(
                {t, values[at], static_cast<double>(2 * i) / static_cast<double>(trailer_)});
            t += 2;
        }
    }

    void place_facts(Random& random, Index first_query) {
        const Index V = shape_.vocab, low = V / 2, F = shape_.facts;
        const auto KEY = static_cast<token_id>(V - 4), VAL = static_cast<token_id>(V - 3),
                   QUERY = static_cast<token_id>(V - 2);
        const auto other = [&] {  // k and v lie in [V/2, V − 4)
            return static_cast<token_id>(
                low + static_cast<Index>(random.below(static_cast<std::uint64_t>(V - 4 - low))));
        };
        for (Index x = 0; x < low; ++x) filler_.push_back(static_cast<token_id>(x));
        trailer_ = shape_.length - 4 * shape_.queries;
        const auto keys = distinct(random, F, V - 4 - low);
        auto places = distinct(random, F, trailer_ - 3 * F);  // with 3 tokens behind each left out
        std::sort(places.begin(), places.end());
        std::vector<token_id> values;
        for (Index i = 0; i < F; ++i) {
            const auto at = static_cast<std::size_t>(i);
            values.push_back(other());
            places[at] += 3 * i;
            segments_.push_back(
                {places[at], 4, {KEY, static_cast<token_id>(low + keys[at]), VAL, values.back()}});
        }
        Index t = trailer_;
        for (const Index i : queried(random, first_query)) {
            const auto at = static_cast<std::size_t>(i);
            segments_.push_back(
                {t, 4, {QUERY, static_cast<token_id>(low + keys[at]), VAL, values[at]}});
            answers_.push_back({t + 2, values[at],
                                static_cast<double>(places[at]) / static_cast<double>(trailer_)});
            t += 4;
        }
    }

    token_id filler(Random& random) const noexcept { return filler_[random.below(filler_.size())]; }

    TaskShape shape_;
    std::uint64_t seed_;
    Index trailer_ = 0;
    std::vector<token_id> filler_;   // what filler is drawn from
    std::vector<Segment> segments_;  // facts and queries, in order
    std::vector<TaskAnswer> answers_;
};

}  // namespace HYDRALM_NAMESPACE
