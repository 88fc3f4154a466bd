// Whether ranks see the same: a run whose ranks differ would have no one result.
#pragma once

#include <concepts>

#include "hydralm/core/abi.hpp"
#include "hydralm/io/json_difference.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/training/ranks.hpp"

namespace HYDRALM_NAMESPACE::detail {

// What this program is: results differ between versions, compilers and instruction sets.
inline Json program_facts() {
    return {{"version", std::to_string(HYDRALM_VERSION_MAJOR) + "." +
                            std::to_string(HYDRALM_VERSION_MINOR) + "." +
                            std::to_string(HYDRALM_VERSION_PATCH)},
            {"compiler", __VERSION__},
            {"instruction set", simd::architecture()}};
}

// Throws Error, the same on every rank, unless the facts are: naming the first rank that differs
// from rank 0, and in what.
inline void expect_same(Ranks& ranks, const Json& facts) {
    const auto all = ranks.gather(facts.dump());
    for (std::size_t r = 1; r < all.size(); ++r)
        if (all[r] != all[0])
            raise({.field = "rank " + std::to_string(r) + ": " +
                            json_difference(Json::parse(all[0]), Json::parse(all[r])),
                   .fix = "start every rank with the same program, options and files, on "
                          "processors of one kind"});
}
// Of the facts that facts_of() finds; what it throws on one rank all throw.
template <std::invocable F>
void expect_same(Ranks& ranks, const F& facts_of) {
    Json facts;
    ranks.on_all([&] { facts = facts_of(); });
    expect_same(ranks, facts);
}

}  // namespace HYDRALM_NAMESPACE::detail
