// What a sequence of a task is made of: planned once from its random stream, filled in pieces.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <unordered_set>
#include <utility>
#include <vector>

#include "hydralm/core/random.hpp"
#include "hydralm/evaluation/task_shape.hpp"

namespace HYDRALM_NAMESPACE {

// A scored token: the prediction at position is value; depth in [0, 1): where its fact lies. With
// several values (count of them, the first is value), the count best predictions must be they, in
// any order.
struct TaskAnswer {
    Index position = 0;
    token_id value = 0;
    double depth = 0.0;
    Index count = 1;
    std::array<token_id, 4> values{value};
};

namespace detail {

struct TaskSegment {
    Index position;
    Index count;
    std::array<token_id, 8> tokens;
};

struct TaskPlan {
    Index trailer = 0;                  // where the queries begin
    std::vector<token_id> filler;       // what filler is drawn from, uniformly …
    std::vector<double> cumulative;     // … or by these cumulated weights
    std::vector<TaskSegment> segments;  // facts and queries, in order
    std::vector<TaskAnswer> answers;
    std::vector<std::pair<Index, token_id>> hints;  // trained on, beside the answers
};

// count distinct numbers below bound, in random order (Floyd's sampling, then a shuffle).
inline std::vector<Index> distinct(Random& random, Index count, Index bound) {
    std::vector<Index> chosen;
    std::unordered_set<Index> taken;
    for (Index top = bound - count; top < bound; ++top) {
        const auto x = static_cast<Index>(random.below(static_cast<std::uint64_t>(top + 1)));
        chosen.push_back(taken.insert(x).second ? x : top);
        taken.insert(chosen.back());
    }
    for (std::size_t i = chosen.size(); i > 1; --i)
        std::swap(chosen[i - 1], chosen[random.below(i)]);
    return chosen;
}

// Plans of all tasks with facts. Keys and values of all but MQAR are ids in [V/2, V − 4), filler is
// below V/2; KEY = V − 4, VAL = V − 3, QUERY = V − 2.
class FactPlanner {
public:
    // Queries are about facts first_query, … of a random order.
    FactPlanner(TaskKind kind, const TaskShape& shape, Random& random, Index first_query)
        : kind_(kind), shape_(shape), random_(random), first_query_(first_query) {}

    TaskPlan plan() {
        plan_.trailer = shape_.length - shape_.queries * query_tokens(kind_, shape_);
        switch (kind_) {
            case TaskKind::mqar: pairs(); break;
            case TaskKind::multikey: long_keys(); break;
            case TaskKind::multivalue: many_values(); break;
            case TaskKind::tracking: chains(); break;
            default: facts(); break;
        }
        return std::move(plan_);
    }

private:
    token_id key_mark() const noexcept { return static_cast<token_id>(shape_.vocab - 4); }
    token_id value_mark() const noexcept { return static_cast<token_id>(shape_.vocab - 3); }
    token_id query_mark() const noexcept { return static_cast<token_id>(shape_.vocab - 2); }
    Index low() const noexcept { return shape_.vocab / 2; }
    Index others() const noexcept { return shape_.vocab - 4 - low(); }
    token_id other(Index i) const noexcept { return static_cast<token_id>(low() + i); }
    token_id any_other() {
        return other(static_cast<Index>(random_.below(static_cast<std::uint64_t>(others()))));
    }
    double depth(Index place) const noexcept {
        return static_cast<double>(place) / static_cast<double>(plan_.trailer);
    }
    std::vector<Index> queried() {
        const auto order = distinct(random_, asked_, asked_);
        return {order.begin() + first_query_, order.begin() + first_query_ + shape_.queries};
    }
    // Where count facts of 4 tokens lie: at random, none over another.
    std::vector<Index> places(Index count) {
        auto all = distinct(random_, count, plan_.trailer - 3 * count);  // 3 behind each left out
        std::sort(all.begin(), all.end());
        for (std::size_t i = 0; i < all.size(); ++i) all[i] += 3 * static_cast<Index>(i);
        return all;
    }
    void fill_with_low_ids() {
        for (Index x = 0; x < low(); ++x) plan_.filler.push_back(static_cast<token_id>(x));
    }
    void store(Index place, token_id key, token_id value) {
        plan_.segments.push_back({place, 4, {key_mark(), key, value_mark(), value}});
    }
    void ask(Index query, token_id key, token_id value, Index place) {
        const Index t = plan_.trailer + 4 * query;
        plan_.segments.push_back({t, 4, {query_mark(), key, value_mark(), value}});
        plan_.answers.push_back({t + 2, value, depth(place)});
    }

    void pairs() {
        const Index half = low();
        asked_ = shape_.facts;
        const auto keys = distinct(random_, shape_.facts, half);
        std::vector<token_id> values;
        std::vector<char> stored(static_cast<std::size_t>(half), 0);
        for (Index i = 0; i < shape_.facts; ++i) {
            const Index key = keys[static_cast<std::size_t>(i)];
            values.push_back(static_cast<token_id>(
                half + static_cast<Index>(random_.below(static_cast<std::uint64_t>(half)))));
            plan_.segments.push_back({2 * i, 2, {static_cast<token_id>(key), values.back()}});
            stored[static_cast<std::size_t>(key)] = 1;
        }
        for (Index k = 0; k < half; ++k)
            if (stored[static_cast<std::size_t>(k)] == 0)
                plan_.filler.push_back(static_cast<token_id>(k));
        if (plan_.filler.empty()) plan_.filler.push_back(0);  // no room for any
        Index t = plan_.trailer;
        for (const Index i : queried()) {
            const auto at = static_cast<std::size_t>(i);
            plan_.segments.push_back({t, 2, {static_cast<token_id>(keys[at]), values[at]}});
            plan_.answers.push_back({t, values[at], depth(2 * i)});
            t += 2;
        }
    }

    void facts() {
        fill_with_low_ids();
        asked_ = shape_.facts;
        const auto keys = distinct(random_, asked_, others());
        const auto at = places(asked_);
        std::vector<token_id> values;
        for (std::size_t i = 0; i < at.size(); ++i) {
            values.push_back(any_other());
            store(at[i], other(keys[i]), values.back());
        }
        Index query = 0;
        for (const Index chosen : queried()) {
            const auto i = static_cast<std::size_t>(chosen);
            ask(query++, other(keys[i]), values[i], at[i]);
        }
    }

    // Facts side by side; filler, fewer tokens than a fact, in front of them.
    void long_keys() {
        fill_with_low_ids();
        const Index m = shape_.key_tokens, size = m + 3;
        const Index ids = shape_.key_ids == 0 ? others() : shape_.key_ids;
        asked_ = stored_facts(kind_, shape_);
        const auto drawn = distinct(random_, ids, others());
        const auto keys = distinct(random_, asked_,
                                   m == 1   ? ids
                                   : m == 2 ? ids * ids
                                            : ids * ids * ids);
        const auto written = [&](token_id mark, Index key, token_id value) {
            std::array<token_id, 8> tokens{mark};
            for (Index i = 1; i <= m; ++i, key /= ids)
                tokens[static_cast<std::size_t>(i)] =
                    other(drawn[static_cast<std::size_t>(key % ids)]);
            tokens[static_cast<std::size_t>(m + 1)] = value_mark();
            tokens[static_cast<std::size_t>(m + 2)] = value;
            return tokens;
        };
        std::vector<token_id> values;
        const Index first = plan_.trailer - size * asked_;
        for (Index i = 0; i < asked_; ++i) {
            values.push_back(any_other());
            plan_.segments.push_back(
                {first + size * i, size,
                 written(key_mark(), keys[static_cast<std::size_t>(i)], values.back())});
        }
        Index t = plan_.trailer;
        for (const Index i : queried()) {
            const auto at = static_cast<std::size_t>(i);
            plan_.segments.push_back({t, size, written(query_mark(), keys[at], values[at])});
            plan_.answers.push_back({t + m + 1, values[at], depth(first + size * i)});
            t += size;
        }
    }

    // The values of a key lie anywhere; a query names them in a random order.
    void many_values() {
        fill_with_low_ids();
        asked_ = shape_.facts;
        const auto keys = distinct(random_, asked_, others());
        const auto at = places(asked_ * shape_.values);
        const auto owner = distinct(random_, asked_ * shape_.values, asked_ * shape_.values);
        std::vector<std::vector<Index>> values;
        values.reserve(keys.size());
        for (Index i = 0; i < asked_; ++i)
            values.push_back(distinct(random_, shape_.values, others()));
        std::vector<Index> first(keys.size(), plan_.trailer);
        for (std::size_t i = 0; i < at.size(); ++i) {
            const auto key = static_cast<std::size_t>(owner[i] / shape_.values);
            const auto which = static_cast<std::size_t>(owner[i] % shape_.values);
            store(at[i], other(keys[key]), other(values[key][which]));
            first[key] = std::min(first[key], at[i]);
        }
        Index t = plan_.trailer;
        for (const Index chosen : queried()) {
            const auto key = static_cast<std::size_t>(chosen);
            TaskSegment query{t, shape_.values + 3, {query_mark(), other(keys[key]), value_mark()}};
            TaskAnswer answer{t + 2, 0, depth(first[key]), shape_.values};
            for (Index i = 0; i < shape_.values; ++i) {
                const auto value = other(values[key][static_cast<std::size_t>(i)]);
                query.tokens[static_cast<std::size_t>(3 + i)] = value;
                answer.values[static_cast<std::size_t>(i)] = value;
                if (i > 0) plan_.hints.emplace_back(t + 2 + i, value);
            }
            answer.value = answer.values[0];
            plan_.segments.push_back(query);
            plan_.answers.push_back(answer);
            t += query.count;
        }
    }

    // Each chain of h facts has h + 1 ids of its own, and so has each fact that leads nowhere two:
    // the value of no fact is the key of one of another chain.
    void chains() {
        fill_with_low_ids();
        asked_ = shape_.facts;
        const Index links = shape_.hops + 1, stored = stored_facts(kind_, shape_);
        const auto ids = distinct(random_, asked_ * (links + 2), others());
        const auto at = places(stored);
        const auto order = distinct(random_, stored, stored);
        std::vector<Index> last(static_cast<std::size_t>(asked_));
        for (std::size_t i = 0; i < at.size(); ++i) {
            const Index fact = order[i];
            Index from = 0;
            if (fact < asked_ * shape_.hops) {
                const Index chain = fact / shape_.hops, hop = fact % shape_.hops;
                from = chain * links + hop;
                if (hop == shape_.hops - 1) last[static_cast<std::size_t>(chain)] = at[i];
            } else {
                from = asked_ * links + 2 * (fact - asked_ * shape_.hops);
            }
            store(at[i], other(ids[static_cast<std::size_t>(from)]),
                  other(ids[static_cast<std::size_t>(from + 1)]));
        }
        Index query = 0;
        for (const Index chain : queried())
            ask(query++, other(ids[static_cast<std::size_t>(chain * links)]),
                other(ids[static_cast<std::size_t>(chain * links + shape_.hops)]),
                last[static_cast<std::size_t>(chain)]);
    }

    TaskKind kind_;
    const TaskShape& shape_;
    Random& random_;
    Index first_query_, asked_ = 0;
    TaskPlan plan_;
};

// Words drawn with p ∝ rank⁻², ranks in a random order; the three most frequent are asked for once
// they are counted.
inline TaskPlan plan_words(const TaskShape& shape, Random& random) {
    TaskPlan plan;
    plan.trailer = shape.length - 4;
    const Index words = shape.vocab / 2;
    for (const Index word : distinct(random, words, words)) {
        plan.filler.push_back(static_cast<token_id>(word));
        const auto rank = static_cast<double>(plan.filler.size());
        plan.cumulative.push_back((plan.cumulative.empty() ? 0.0 : plan.cumulative.back()) +
                                  1.0 / (rank * rank));
    }
    return plan;
}

// Permutations of n in lexicographic order: elements of the symmetric group by number.
class SymmetricGroup {
public:
    explicit SymmetricGroup(Index n) {
        std::vector<int> p(static_cast<std::size_t>(n));
        for (std::size_t i = 0; i < p.size(); ++i) p[i] = static_cast<int>(i);
        do elements_.push_back(p);
        while (std::next_permutation(p.begin(), p.end()));
    }
    Index size() const noexcept { return static_cast<Index>(elements_.size()); }
    // First a, then b: i ↦ b(a(i)).
    Index product(Index a, Index b) const {
        std::vector<int> result;
        for (const int i : elements_[static_cast<std::size_t>(a)])
            result.push_back(elements_[static_cast<std::size_t>(b)][static_cast<std::size_t>(i)]);
        return std::lower_bound(elements_.begin(), elements_.end(), result) - elements_.begin();
    }

private:
    std::vector<std::vector<int>> elements_;
};

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE
