// The synthetic tasks: seeded sequences that ask for facts stored in them, piece by piece, or for
// the running product of what they hold.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/evaluation/task_plan.hpp"

namespace HYDRALM_NAMESPACE {

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
        check_task_shape(kind, shape);
        const Index asked = !asks_queries(kind)          ? 1
                            : kind == TaskKind::multikey ? stored_facts(kind, shape)
                                                         : shape.facts;
        const Index trailers = asks_queries(kind) ? asked / shape.queries : 1;
        if (trailer < 0 || trailer >= trailers)
            raise({.field = "trailer",
                   .expected = "at most " + std::to_string(trailers - 1),
                   .found = std::to_string(trailer),
                   .fix = "ask fewer queries, or store more facts"});
        Random random(seed_);
        if (permuted(kind) > 0) multiply(detail::SymmetricGroup(permuted(kind)));
        else if (kind == TaskKind::words) count(random);
        else plan_ = detail::FactPlanner(kind, shape, random, trailer * shape.queries).plan();
    }

    Index length() const noexcept { return shape_.length; }
    // Where the queries begin; the end, of a task without.
    Index trailer() const noexcept { return plan_.trailer; }
    // What is scored, in order of position.
    std::span<const TaskAnswer> answers() const noexcept { return plan_.answers; }
    // f(position, label) for every token that is trained on: the answers, and of several values
    // asked for together those behind the first.
    template <class F>
    void for_each_label(const F& f) const {
        for (const TaskAnswer& answer : plan_.answers) f(answer.position, answer.value);
        for (const auto& [position, value] : plan_.hints) f(position, value);
    }

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
        const auto& segments = plan_.segments;
        auto segment = std::partition_point(segments.begin(), segments.end(), [&](const auto& s) {
            return s.position + s.count <= first;
        });
        for (; segment != segments.end() && segment->position < end; ++segment)
            for (Index i = 0; i < segment->count; ++i)
                if (const Index t = segment->position + i; t >= first && t < end)
                    out[static_cast<std::size_t>(t - first)] =
                        segment->tokens[static_cast<std::size_t>(i)];
    }

private:
    static constexpr Index block_ = 256;  // filler tokens drawn from one random stream

    // Unlike that of any other sequence, whatever the seeds.
    static std::uint64_t own_seed(TaskKind kind, Split split, std::uint64_t seed,
                                  std::uint64_t index) noexcept {
        const std::uint64_t stream = 0x7461736b00ULL + 2 * static_cast<std::uint64_t>(kind) +
                                     static_cast<std::uint64_t>(split);
        Random random(seed, stream);
        return Random(random(), index)();
    }

    // f(position, token) for all tokens below end.
    template <class F>
    void for_each_token(Index end, const F& f) const {
        std::vector<token_id> tokens(static_cast<std::size_t>(block_));
        for (Index t = 0; t < end; t += block_) {
            const auto part =
                std::span(tokens).first(static_cast<std::size_t>(std::min(block_, end - t)));
            fill(t, part);
            for (std::size_t i = 0; i < part.size(); ++i) f(t + static_cast<Index>(i), part[i]);
        }
    }

    // Every token an element; the answer at each position: the product of all so far.
    void multiply(const detail::SymmetricGroup& group) {
        const Index n = group.size();
        std::vector<Index> products;
        for (Index a = 0; a < n; ++a) {
            plan_.filler.push_back(static_cast<token_id>(a));
            for (Index b = 0; b < n; ++b) products.push_back(group.product(a, b));
        }
        plan_.trailer = shape_.length;
        Index product = 0;  // the identity
        for_each_token(shape_.length, [&](Index t, token_id token) {
            product = products[static_cast<std::size_t>(product * n + token)];
            plan_.answers.push_back({t, static_cast<token_id>(product),
                                     static_cast<double>(t) / static_cast<double>(shape_.length)});
        });
    }

    // `QUERY v₁ v₂ v₃` names the three most frequent words, of equal ones the one of smaller id.
    void count(Random& random) {
        plan_ = detail::plan_words(shape_, random);
        std::vector<Index> counts(static_cast<std::size_t>(shape_.vocab / 2), 0);
        for_each_token(plan_.trailer,
                       [&](Index, token_id word) { ++counts[static_cast<std::size_t>(word)]; });
        detail::TaskSegment query{plan_.trailer, 4, {static_cast<token_id>(shape_.vocab - 2)}};
        for (Index i = 0; i < 3; ++i) {
            const auto most = std::max_element(counts.begin(), counts.end());
            const auto word = static_cast<token_id>(most - counts.begin());
            *most = -1;
            query.tokens[static_cast<std::size_t>(i + 1)] = word;
            plan_.answers.push_back({plan_.trailer + i, word});
        }
        plan_.segments.push_back(query);
    }

    token_id filler(Random& random) const noexcept {
        if (plan_.cumulative.empty()) return plan_.filler[random.below(plan_.filler.size())];
        const double x = random.uniform() * plan_.cumulative.back();
        const auto at = std::upper_bound(plan_.cumulative.begin(), plan_.cumulative.end(), x);
        return plan_.filler[std::min(static_cast<std::size_t>(at - plan_.cumulative.begin()),
                                     plan_.filler.size() - 1)];
    }

    TaskShape shape_;
    std::uint64_t seed_;
    detail::TaskPlan plan_;
};

}  // namespace HYDRALM_NAMESPACE
