// Comparison of arrays: relative to the largest expected value, and by relative RMS. NaN never
// passes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <sstream>
#include <string>

#include "hydralm/core/types.hpp"
#include "support/catch.hpp"

namespace hydralm::test {

struct Difference {
    double relative_to_max = 0;  // max |a − e| / max |e|
    double relative_rms = 0;     // √(Σ (a − e)² / Σ e²)
};

// actual and expected: anything with size() and operator[], e.g. vectors, spans, AlignedBuffers.
// Where everything expected is 0, the difference itself is returned.
template <class Actual, class Expected>
Difference difference(const Actual& actual, const Expected& expected) {
    const double bad = std::numeric_limits<double>::infinity();
    if (static_cast<Index>(actual.size()) != static_cast<Index>(expected.size())) return {bad, bad};
    double worst = 0, largest = 0, squares = 0, scale = 0;
    for (Index i = 0; i < static_cast<Index>(expected.size()); ++i) {
        using A = decltype(actual.size());
        using E = decltype(expected.size());
        const double e = static_cast<double>(expected[static_cast<E>(i)]);
        const double d = static_cast<double>(actual[static_cast<A>(i)]) - e;
        if (!std::isfinite(d)) return {bad, bad};
        worst = std::fmax(worst, std::abs(d));
        largest = std::fmax(largest, std::abs(e));
        squares += d * d;
        scale += e * e;
    }
    return {largest > 0 ? worst / largest : worst,
            std::sqrt(scale > 0 ? squares / scale : squares)};
}

// Fails when a value is off by more than bound × the largest expected value. where: shape and seed.
template <class Actual, class Expected>
void check_close(const Actual& actual, const Expected& expected, double bound,
                 const std::string& where) {
    const Difference d = difference(actual, expected);
    INFO(where << ": relative to max " << d.relative_to_max << ", relative RMS " << d.relative_rms
               << ", bound " << bound);
    CHECK(d.relative_to_max <= bound);
}

// Whether two arrays, anything with size() and data(), are the same bytes.
template <class A, class B>
bool same_bits(const A& a, const B& b) {
    const auto bytes = [](const auto& x) {
        return std::as_bytes(std::span(x.data(), static_cast<std::size_t>(x.size())));
    };
    return bytes(a).size() == bytes(b).size() &&
           (a.size() == 0 || std::memcmp(a.data(), b.data(), bytes(a).size()) == 0);
}

}  // namespace hydralm::test
