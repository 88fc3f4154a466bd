// TaskKind and TaskShape: the synthetic tasks by name, and the sequences they can have.
//
// MQAR (Arora et al., arXiv 2312.04927): `k v` pairs, then queries `k v`. Needle (Hsieh et al.,
// arXiv 2404.06654) and retrieval_qa: facts `KEY k VAL v` at random places of filler, then queries
// `QUERY k VAL v`. RULER's harder ones: multikey, nothing but facts `KEY k₁ … k_m VAL v`;
// multivalue, several values of a key, asked for together; tracking, facts that chain; words, the
// three most frequent. State tracking (Grazzi et al., arXiv 2411.12537): elements of a group, and
// the running product at every position.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

enum class TaskKind : std::uint8_t {
    mqar,
    needle,
    retrieval_qa,
    multikey,
    multivalue,
    tracking,
    words,
    parity,
    s3,
    s5
};

inline constexpr std::array<std::string_view, 10> task_names{
    "mqar",     "needle", "retrieval_qa", "multikey", "multivalue",
    "tracking", "words",  "parity",       "s3",       "s5"};

inline std::optional<TaskKind> task_kind(std::string_view name) noexcept {
    const auto found = std::find(task_names.begin(), task_names.end(), name);
    if (found == task_names.end()) return std::nullopt;
    return static_cast<TaskKind>(found - task_names.begin());
}

// n of the symmetric group a state-tracking task is about; 0 for the others. Z₂ is S₂.
constexpr Index permuted(TaskKind kind) noexcept {
    return kind == TaskKind::parity ? 2 : kind == TaskKind::s3 ? 3 : kind == TaskKind::s5 ? 5 : 0;
}
// Whether a shape of this task says how many facts are stored, and how many are asked for.
constexpr bool stores_facts(TaskKind kind) noexcept {
    return kind <= TaskKind::tracking && kind != TaskKind::multikey;
}
constexpr bool asks_queries(TaskKind kind) noexcept { return kind <= TaskKind::tracking; }

// What a sequence holds: length tokens in all, the queries at the end; vocab V (retrieval_qa: 512).
struct TaskShape {
    Index length = 0;
    Index facts = 1;  // MQAR: pairs; multivalue: keys; tracking: chains, beside as many other facts
    Index queries = 1;
    Index vocab = 512;
    Index key_tokens = 2;  // multikey: m
    Index key_ids = 0;     // multikey: key tokens are drawn from so many ids; 0: all V/2 − 4
    Index hops = 2;        // tracking: facts a chain has
    Index values = 4;      // multivalue: values of a key

    bool operator==(const TaskShape&) const = default;
};

// Tokens behind a queried key's `QUERY … VAL v …`, and of a stored fact.
constexpr Index query_tokens(TaskKind kind, const TaskShape& s) noexcept {
    switch (kind) {
        case TaskKind::mqar: return 2;
        case TaskKind::multikey: return s.key_tokens + 3;
        case TaskKind::multivalue: return s.values + 3;
        case TaskKind::words: return 4;
        case TaskKind::parity:
        case TaskKind::s3:
        case TaskKind::s5: return 0;
        default: return 4;
    }
}
constexpr Index fact_tokens(TaskKind kind, const TaskShape& s) noexcept {
    return kind == TaskKind::mqar ? 2 : kind == TaskKind::multikey ? s.key_tokens + 3 : 4;
}
// Facts in the haystack, those that no query is about included.
constexpr Index stored_facts(TaskKind kind, const TaskShape& s) noexcept {
    switch (kind) {
        case TaskKind::multikey:
            return (s.length - s.queries * query_tokens(kind, s)) / fact_tokens(kind, s);
        case TaskKind::multivalue: return s.facts * s.values;
        case TaskKind::tracking: return s.facts * (s.hops + 1);
        default: return s.facts;
    }
}

// Throws Error unless sequences of this shape exist, naming the field.
inline void check_task_shape(TaskKind kind, const TaskShape& s) {
    const auto require = [](bool good, const char* field, const std::string& expected,
                            Index found) {
        if (!good)
            raise({.field = field,
                   .expected = expected,
                   .found = std::to_string(found),
                   .fix = "give the task a shape that fits"});
    };
    const auto at_most = [&](const char* field, Index found, Index most, const char* of) {
        require(found >= 1 && found <= most, field, "1 to " + std::to_string(most) + ", " + of,
                found);
    };
    require(s.vocab >= 16 && s.vocab % 2 == 0, "vocab", "an even number from 16 on", s.vocab);
    require(kind != TaskKind::retrieval_qa || s.vocab == 512, "vocab", "512 for retrieval_qa",
            s.vocab);
    constexpr Index longest = Index{1} << 40;
    if (const Index n = permuted(kind); n > 0) {
        const Index elements = n == 5 ? 120 : n == 3 ? 6 : 2;
        require(s.vocab >= elements, "vocab",
                "at least " + std::to_string(elements) + ", the elements of the group", s.vocab);
        require(s.length >= 1 && s.length <= Index{1} << 24, "length", "1 to 2^24", s.length);
        return;
    }
    if (kind == TaskKind::words) {
        require(s.length >= 256 && s.length < longest, "length",
                "at least 256, so that there are most frequent words", s.length);
        return;
    }
    const Index low = s.vocab / 2, others = s.vocab - 4 - low;
    if (kind == TaskKind::multikey) {
        at_most("key_tokens", s.key_tokens, 3, "that a key can have");
        require(s.key_ids >= 0 && s.key_ids <= others, "key_ids",
                "0 to " + std::to_string(others) + ", the ids that are no filler", s.key_ids);
    }
    if (kind == TaskKind::multivalue) at_most("values", s.values, 4, "that a query can ask for");
    if (kind == TaskKind::tracking) at_most("hops", s.hops, 64, "that a chain can have");
    const Index ids = s.key_ids == 0 ? others : s.key_ids;
    const Index keys = kind == TaskKind::mqar       ? low
                       : kind == TaskKind::multikey ? (s.key_tokens == 1   ? ids
                                                       : s.key_tokens == 2 ? ids * ids
                                                                           : ids * ids * ids)
                       : kind == TaskKind::tracking ? others / (s.hops + 3)
                                                    : others;
    const Index query = query_tokens(kind, s), fact = fact_tokens(kind, s);
    if (kind != TaskKind::multikey) at_most("facts", s.facts, keys, "the keys of the vocabulary");
    const Index stored = stored_facts(kind, s),
                asked = kind == TaskKind::multikey ? stored : s.facts;
    require(s.queries >= 1, "queries", "at least 1", s.queries);
    const Index least =
        fact * (kind == TaskKind::multikey ? s.queries : stored) + query * s.queries;
    require(s.length >= least && s.length < longest, "length",
            "at least " + std::to_string(least) + ", what facts and queries take", s.length);
    at_most("queries", s.queries, asked, "the facts");
    if (kind == TaskKind::multikey)
        require(stored <= keys, "length",
                "at most " + std::to_string(keys * fact + query * s.queries) +
                    ", or keys would come twice",
                s.length);
    require(kind != TaskKind::mqar || s.facts < keys || s.length == least, "length",
            std::to_string(least) + " when every key is stored", s.length);
}

}  // namespace HYDRALM_NAMESPACE
