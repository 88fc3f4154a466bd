// The chunks that queries score highest, against the reference: flat and by a tree, ties,
// scores that are not numbers, whatever is searched together.
#include "hydralm/kernels/chunk_search/search.hpp"

#include <cmath>
#include <limits>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/chunk_search/reference.hpp"
#include "support/catch.hpp"
#include "support/random_rows.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

// Small whole numbers: scores are exact, and many are alike.
template <class T>
T small_number(Random& random) {
    return static_cast<T>(random.below(5)) - T(2);
}

// Vectors [width, 64] for so many nodes of a height, and 64 of them a page.
template <class T>
struct Vectors {
    Index width;
    AlignedBuffer<T> values;

    Vectors(Index count, Index vector_width, Random& random)
        : width(vector_width), values(round_up(count, chunk_group) * vector_width) {
        for (T& x : values.span()) x = small_number<T>(random);
    }
    const T* page(Index i) const noexcept { return values.data() + i * width * chunk_group; }
    // Of element d of vector i.
    Index place(Index d, Index i) const noexcept {
        return (i / chunk_group * width + d) * chunk_group + i % chunk_group;
    }
    // Of a query with vector i.
    T score(std::span<const T> q, Index i) const noexcept {
        T sum = 0;
        for (Index d = 0; d < width; ++d)
            sum += q[static_cast<std::size_t>(d)] * values[place(d, i)];
        return sum;
    }
};

template <class T>
struct Case {
    Index width, count;
    Random random{static_cast<std::uint64_t>(100 * width + count)};
    std::vector<Vectors<T>> nodes;  // by height

    Case(Index vector_width, Index chunk_count) : width(vector_width), count(chunk_count) {
        for (Index h = 0; h < tree_heights; ++h) {
            nodes.emplace_back(ceil_div(count, node_chunks(h)), width, random);
            // One whose score is not a number: the last choice.
            nodes.back().values[nodes.back().place(0, h == 0 ? count / 2 : 0)] =
                std::numeric_limits<T>::quiet_NaN();
        }
    }
    const T* summaries(Index height, Index i) const noexcept { return of(height).page(i); }
    void fetch_summaries(Index, Index) const noexcept {}
    const Vectors<T>& of(Index height) const noexcept {
        return nodes[static_cast<std::size_t>(height)];
    }
};

// `rows` queries whose pasts end at and before `end`, together and each by itself.
template <class T>
void check(const Case<T>& past, Index rows, Index first, Index end, Index top_k, Index open) {
    Random random(7);
    Rows<T> q(rows, past.width);
    for (Index i = 0; i < rows; ++i)
        for (T& x : q.row(i)) x = small_number<T>(random);
    std::vector<Index> from, to;
    for (Index i = 0; i < rows; ++i) {
        to.push_back(std::max<Index>(0, end - (rows - 1 - i) / 3));
        from.push_back(std::min(first, to.back()));
    }
    AlignedBuffer<std::byte> memory(kernels::chunk_search_workspace_bytes<T>(rows, past.width));
    std::vector<T> scores(static_cast<std::size_t>(rows * top_k));
    std::vector<std::int32_t> chunks(scores.size());
    using Best = kernels::detail::BestChunks<T>;
    const auto search = [&](Index begin, Index n) {
        std::fill_n(reinterpret_cast<unsigned char*>(memory.data()), memory.size(), 0xff);
        Arena arena(memory.span());
        std::vector<Best> best;
        for (Index i = begin; i < begin + n; ++i)
            best.push_back({top_k, scores.data() + i * top_k, chunks.data() + i * top_k});
        kernels::search_chunks<T>(q.view().middle_rows(begin, n), past, open, from.data() + begin,
                                  to.data() + begin, best.data(), arena);
        for (Best& one : best) one.sort_by_chunk();
        CHECK(arena.used() == 0);
    };
    const auto compare = [&] {
        for (Index i = 0; i < rows; ++i) {
            INFO("width " << past.width << ", row " << i << " of " << rows << ", chunks "
                          << from[static_cast<std::size_t>(i)] << " to "
                          << to[static_cast<std::size_t>(i)] << ", best " << top_k << ", open "
                          << open);
            const auto expected = kernels::detail::best_of(
                kernels::detail::scored_chunks<T>(
                    from[static_cast<std::size_t>(i)], to[static_cast<std::size_t>(i)], open,
                    [&](Index h, Index n) { return past.of(h).score(q.row(i), n); }),
                top_k);
            bool same = true;
            for (Index j = 0; j < top_k; ++j) {
                const auto at = static_cast<std::size_t>(i * top_k + j);
                const bool none = j >= std::ssize(expected);
                const auto [score, chunk] =
                    none ? std::pair<T, Index>{0, -1} : expected[static_cast<std::size_t>(j)];
                same = same && chunks[at] == chunk &&
                       (scores[at] == score || (std::isnan(scores[at]) && std::isnan(score)));
            }
            CHECK(same);
        }
    };
    search(0, rows);
    compare();
    for (Index i = 0; i < rows; ++i) search(i, 1);
    compare();
}

}  // namespace

TEMPLATE_TEST_CASE("the chunks of the past that queries score highest are those of the reference",
                   "[chunk_search]", float, double) {
    for (const Index width : {1, 4, 9}) {
        const Case<TestType> few(width, 70), many(width, 64 * 5 + 7);
        for (const Index rows : {1, 3, 32})
            for (const Index top_k : {1, 2, 5, 80}) {
                for (const Index end : {0, 1, 63, 64, 65, 70})
                    for (const Index first : {0, 1, 64}) check(few, rows, first, end, top_k, 0);
                for (const Index open : {1, 2, 4, 16})
                    for (const Index end : {0, 63, 64, 64 * 4, 64 * 5 + 7})
                        check(many, rows, 0, end, top_k, open);
            }
    }
}

TEMPLATE_TEST_CASE("the chunks of a long past are found by a tree of as many heights as it has",
                   "[chunk_search]", float, double) {
    // More nodes than are opened of heights 2 and 3.
    for (const Index count : {64 * 66 + 1, 17 * 64 * 64 + 64 * 5 + 9, 17 * 64 * 64 * 64 + 77}) {
        const Case<TestType> past(2, count);
        for (const Index open : {1, 2, 16})
            for (const Index whole : {1, 64, 64 * 64})
                for (const Index before : {0, 1})
                    check(past, 32, 0, count / whole * whole - before, 5, open);
    }
}
