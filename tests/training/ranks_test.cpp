// Ranks and what each owns: shares of blocks, sums over ranks, optimisers of shares; errors that
// all ranks have.
#include "hydralm/training/optimiser.hpp"
#include "hydralm/training/parameter_share.hpp"
#include "hydralm/training/same_ranks.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"
#include "support/thread_ranks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// A model as an optimiser knows it: matrices that Muon moves, of one and several blocks, between
// tables.
struct Tensors {
    using Scalar = float;
    std::vector<ParameterInfo> parameters;
    Index parameter_count = 0;

    Tensors() {
        for (const auto& [rows, cols, group] : {std::tuple{300, 100, OptimiserGroup::adamw},
                                                {24, 24, OptimiserGroup::muon},
                                                {160, 120, OptimiserGroup::muon},
                                                {1, 7, OptimiserGroup::adamw},
                                                {30, 50, OptimiserGroup::muon},
                                                {2, 20000, OptimiserGroup::adamw}}) {
            ParameterInfo info;
            info.extents = {rows, cols, 1};
            info.rank = 2;
            info.law.group = group;
            info.law.decayed = rows == 2;
            parameters.push_back(info);
            parameter_count += info.size();
        }
    }
};

std::vector<float> normal_values(Index n, std::uint64_t seed) {
    Random random(seed);
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& x : values) x = static_cast<float>(random.normal());
    return values;
}

std::vector<Index> elements(std::span<const ParameterBlock> blocks, std::vector<Index> ends) {
    for (Index& end : ends)
        if (end > 0)
            end = blocks[static_cast<std::size_t>(end) - 1].first +
                  blocks[static_cast<std::size_t>(end) - 1].size;
    return ends;
}

}  // namespace

TEST_CASE("Shares are runs of blocks, whole where they must be", "[ranks]") {
    const Tensors model;
    const auto blocks = parameter_blocks(model.parameters);
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon})
        for (int ranks = 1; ranks <= 9; ++ranks) {
            INFO(ranks << " ranks");
            const auto whole = [&](std::size_t tensor) {
                return moved_by_muon({.kind = kind, .adamw = {}, .muon = {}},
                                     model.parameters[tensor]);
            };
            const auto ends = deal_blocks(blocks, ranks, whole);
            REQUIRE(std::ssize(ends) == ranks);
            CHECK(ends.back() == std::ssize(blocks));
            CHECK(std::ranges::is_sorted(ends));
            for (const Index end : ends) {
                if (end == 0 || end == std::ssize(blocks)) continue;
                const auto at = static_cast<std::size_t>(end);
                CHECK((blocks[at].tensor != blocks[at - 1].tensor || !whole(blocks[at].tensor)));
            }
            if (kind == OptimiserKind::adamw) {
                const auto cuts = elements(blocks, ends);
                for (Index r = 0; r + 1 < ranks; ++r)
                    CHECK(std::abs(cuts[static_cast<std::size_t>(r)] -
                                   model.parameter_count * (r + 1) / ranks) <= parameter_block);
            }
        }
    CHECK(deal_blocks({}, 3, [](std::size_t) { return false; }) == std::vector<Index>{0, 0, 0});
}

TEST_CASE("Optimisers of shares are the optimiser of all", "[ranks]") {
    const Tensors model;
    const auto blocks = parameter_blocks(model.parameters);
    const auto frozen = [&](const ParameterInfo& info) { return info.rows() == 30; };
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon}) {
        const OptimiserOptions options{.kind = kind, .adamw = {}, .muon = {}};
        auto expected = normal_values(model.parameter_count, 1);
        Optimiser<Tensors> all(model, options);
        for (int step = 0; step < 2; ++step)
            all.step(expected, normal_values(model.parameter_count, 2), 0.5, frozen);
        for (int ranks = 1; ranks <= 5; ++ranks) {
            INFO(ranks << " ranks");
            auto found = normal_values(model.parameter_count, 1);
            const auto gradient = normal_values(model.parameter_count, 2);
            std::vector<float> moments;
            Index first = 0;
            for (const Index end :
                 elements(blocks, deal_blocks(blocks, ranks, [&](std::size_t tensor) {
                              return moved_by_muon(options, model.parameters[tensor]);
                          }))) {
                Optimiser<Tensors> own(model, options, first, end - first);
                const auto part = [&](auto& values) {
                    return std::span(values).subspan(static_cast<std::size_t>(first),
                                                     static_cast<std::size_t>(end - first));
                };
                for (int step = 0; step < 2; ++step)
                    own.step(part(found), part(gradient), 0.5, frozen);
                moments.insert(moments.end(), own.first_moment().begin(), own.first_moment().end());
                first = end;
            }
            CHECK(found == expected);
            CHECK(std::ranges::equal(moments, all.first_moment()));
        }
    }
}

TEST_CASE("Each rank has the sum of its share, in the tree of one process", "[ranks]") {
    constexpr Index size = 37;
    for (const int count : {1, 2, 3, 4, 5, 7, 8}) {
        INFO(count << " ranks");
        const auto of = [](int rank) {
            return normal_values(size, 10 + static_cast<unsigned>(rank));
        };
        PairwiseSum<float> tree(count, size);
        std::vector<float> expected;
        for (int r = count - 1; r >= 0; --r) tree.add(expected = of(r));
        std::vector<Index> ends;
        for (int r = 1; r <= count; ++r) ends.push_back(r == count ? size : size * r / count / 3);
        std::vector<std::vector<float>> sums(static_cast<std::size_t>(count)), collected(sums);
        std::array<bool, 8> pieces_agree{};
        on_ranks(count, [&](Ranks& ranks) {
            ParameterShare<float> share(ranks, ends);
            auto own = of(ranks.rank());
            share.sum(own);
            auto in_pieces = of(ranks.rank());
            for (const auto& [begin, end] : {std::pair<Index, Index>{30, 37}, {11, 30}, {0, 11}})
                share.begin_sum(in_pieces, begin, end);
            share.finish_sum(in_pieces);
            const auto at = static_cast<std::size_t>(ranks.rank());
            pieces_agree[at] = in_pieces == own;
            if (at == 0) collected[at].resize(size);
            share.collect(share.own(std::span<const float>(own)), collected[at]);
            share.publish(own);
            sums[at] = own;
        });
        for (const auto& sum : sums) CHECK(sum == expected);
        CHECK(std::count(pieces_agree.begin(), pieces_agree.end(), true) == count);
        CHECK(collected[0] == expected);
    }
}

TEST_CASE("A share of more than ranks can send at once is refused on every rank", "[ranks]") {
    constexpr Index many = Index{1} << 31;
    for (const Index first : {Index{0}, many / 2, many}) {
        std::array<bool, 2> refused{};
        on_ranks(2, [&](Ranks& ranks) {
            try {
                ParameterShare<float>(ranks, {first, many});
            } catch (const Error&) {
                refused[static_cast<std::size_t>(ranks.rank())] = true;
            }
        });
        CHECK((refused[0] && refused[1]));
    }
}

TEST_CASE("Ranks tell each other texts and errors", "[ranks]") {
    constexpr int count = 3;
    std::array<std::vector<std::string>, count> texts;
    std::array<std::string, count> errors, others, memory, lengths, differences;
    std::array<bool, count> all_same{}, any{}, none{};
    on_ranks(count, [&](Ranks& ranks) {
        const auto me = static_cast<std::size_t>(ranks.rank());
        texts[me] = ranks.gather(std::string(2 * me, static_cast<char>('a' + me)));
        any[me] = ranks.any(me == 1);
        none[me] = ranks.any(false);
        ranks.on_first([] {});
        try {
            ranks.on_first([&] {
                raise({.file = "f", .field = "of rank " + std::to_string(me), .expected = "e"});
            });
        } catch (const Error& error) {
            errors[me] = error.what();
        }
        ranks.on_all([] {});
        try {
            ranks.on_all([&] {
                if (me > 0) raise({.file = "f", .field = "x", .expected = std::to_string(me)});
            });
        } catch (const Error& error) {
            others[me] = error.what();
        }
        try {
            ranks.on_all([&] {
                if (me == 2) raise(std::bad_alloc());
            });
        } catch (const Error& error) {
            memory[me] = error.what();
        }
        try {
            ranks.on_all([&] {
                if (me == 1) raise(std::length_error("a list too long"));
            });
        } catch (const Error& error) {
            lengths[me] = error.what();
        }
        detail::expect_same(ranks, {{"seed", 1}});
        all_same[me] = true;
        try {
            detail::expect_same(ranks, {{"files", {{"crc", me == 2 ? 5 : 4}}}, {"seed", 1}});
        } catch (const Error& error) {
            differences[me] = error.what();
        }
    });
    for (std::size_t r = 0; r < count; ++r) {
        CHECK(texts[r] == std::vector<std::string>{"", "bb", "cccc"});
        CHECK(any[r]);
        CHECK_FALSE(none[r]);
        CHECK(errors[r] == "hydralm: f: of rank 0: expected e");
        CHECK(others[r] == "hydralm: f: rank 1: x: expected 1");
        CHECK_THAT(memory[r],
                   Catch::Matchers::StartsWith("hydralm: rank 2: memory: expected as much"));
        CHECK(all_same[r]);
        CHECK(lengths[r] == "hydralm: rank 1: a list too long");
        CHECK_THAT(differences[r],
                   Catch::Matchers::StartsWith(
                       "hydralm: rank 2: files.crc: expected 4, found 5; start every rank"));
    }
}
