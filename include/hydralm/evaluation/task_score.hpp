// TaskScore: how many answers of a task a model gives right, and where the facts lay.
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "hydralm/evaluation/task.hpp"
#include "hydralm/model/hydra_lm.hpp"
#include "hydralm/training/ranks.hpp"

namespace HYDRALM_NAMESPACE {

struct TaskScore {
    std::int64_t answers = 0, right = 0;
    std::array<std::int64_t, 4> answers_by_quartile{}, right_by_quartile{};  // of depth

    double accuracy() const noexcept { return ratio(right, answers); }
    double quartile(std::size_t i) const noexcept {
        return ratio(right_by_quartile[i], answers_by_quartile[i]);
    }
    void add(const TaskAnswer& answer, bool is_right) noexcept {
        const auto quartile = std::min<std::size_t>(3, static_cast<std::size_t>(4 * answer.depth));
        ++answers;
        ++answers_by_quartile[quartile];
        right += is_right;
        right_by_quartile[quartile] += is_right;
    }

    void add(const TaskScore& other) noexcept {
        answers += other.answers;
        right += other.right;
        for (std::size_t i = 0; i < 4; ++i) {
            answers_by_quartile[i] += other.answers_by_quartile[i];
            right_by_quartile[i] += other.right_by_quartile[i];
        }
    }

private:
    static double ratio(std::int64_t a, std::int64_t b) noexcept {
        return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
    }
};

namespace detail {

// Whether the answer's values are the best logits, in any order; of equal logits the first counts.
template <class T>
bool best_are(const TaskAnswer& answer, std::vector<T>& logits) {
    for (Index i = 0; i < answer.count; ++i) {
        const auto best = std::max_element(logits.begin(), logits.end());
        const auto end = answer.values.begin() + answer.count;
        if (std::find(answer.values.begin(), end, best - logits.begin()) == end) return false;
        *best = -std::numeric_limits<T>::infinity();
    }
    return true;
}

// Of the haystacks that are this rank's.
template <class Model>
TaskScore own_task_score(const Model& model, TaskKind kind, const TaskShape& shape,
                         std::int64_t count, std::uint64_t seed, Index trailers,
                         const BankPolicy& policy, const Ranks& ranks) {
    using T = typename Model::Scalar;
    constexpr Index piece = 4096;
    const Index V = model.vocab_size();
    check_task_shape(kind, shape);
    TaskScore score;
    std::vector<token_id> tokens(static_cast<std::size_t>(std::min(piece, shape.length)));
    std::vector<T> logits(static_cast<std::size_t>(V));
    auto haystack = model.new_state(Model::prefill_tile, policy), state = haystack;
    // Tokens [first, end) into a state; every answer among them scored.
    const auto feed = [&](const TaskSequence& sequence, Index first, Index end, auto& into) {
        auto answer = sequence.answers().begin();  // in order of position
        for (Index at = first; at < end; at += piece) {
            const auto part =
                std::span(tokens).first(static_cast<std::size_t>(std::min(piece, end - at)));
            sequence.fill(at, part);
            model.run(part, into, Form::parallel,
                      [&](MatrixView<const T> hidden, std::size_t offset) {
                          const Index begin = at + static_cast<Index>(offset);
                          for (; answer != sequence.answers().end() &&
                                 answer->position < begin + hidden.rows();
                               ++answer) {
                              model.head(hidden.middle_rows(answer->position - begin, 1),
                                         {logits.data(), 1, V});
                              score.add(*answer, detail::best_are(*answer, logits));
                          }
                      });
        }
    };
    for (std::int64_t i = ranks.rank(); i < count; i += ranks.count()) {
        haystack.reset();
        for (Index j = 0; j < trailers; ++j) {
            const TaskSequence sequence(kind, shape, Split::evaluation, seed,
                                        static_cast<std::uint64_t>(i), j);
            if (j == 0) feed(sequence, 0, sequence.trailer(), haystack);
            state = haystack;
            feed(sequence, sequence.trailer(), shape.length, state);
        }
    }
    return score;
}

}  // namespace detail

// Scores `count` evaluation haystacks of a seed, each with `trailers` disjoint sets of queries that
// fork from its state. Each is made and fed 4096 tokens at a time, so memory does not grow with its
// length but for the model's own state, whose banks follow the policy. Haystacks are dealt out to
// the ranks, and the score is that of all. Throws Error for an impossible shape, and as
// Model::prefill does (a vocabulary smaller than the task's): what one rank throws all do.
template <class Model>
TaskScore score_task(const Model& model, TaskKind kind, const TaskShape& shape, std::int64_t count,
                     std::uint64_t seed, Index trailers = 1, const BankPolicy& policy = {},
                     Ranks& ranks = one_rank()) {
    TaskScore own, all;
    ranks.on_all([&] {
        own = detail::own_task_score(model, kind, shape, count, seed, trailers, policy, ranks);
    });
    for (const TaskScore& one : ranks.gather(own)) all.add(one);
    return all;
}

}  // namespace HYDRALM_NAMESPACE
