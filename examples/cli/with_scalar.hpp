// The scalar the command line asks for, as a type.
#pragma once

#include <hydralm/core/error.hpp>
#include <string>

#include "options.hpp"

// Throws Error where matrices are to be in a format that models of double have not.
inline void expect_weights_of_scalar(const Options& o) {
    if (o.scalar == "double" && !o.weights.empty() && o.weights != "float")
        throw hydralm::Error({.field = "--weights",
                              .expected = "float with --scalar double",
                              .found = o.weights,
                              .fix = "leave one of the two out"});
}

// Calls f with a value of the scalar type that is named.
template <class F>
void with_scalar(const std::string& name, const F& f) {
    if (name == "double") f(double{});
    else f(float{});
}
