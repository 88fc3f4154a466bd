// --chunk, which one form of a command knows.
#pragma once

#include <hydralm/core/error.hpp>

#include <string>

#include "options.hpp"

// Throws Error when --chunk is given with another form than the one that knows it.
inline void expect_chunk_of(const std::string& knows, const std::string& form, const Options& o) {
    if (o.chunk > 0 && form != knows)
        throw hydralm::Error({.field = "--chunk",
                              .expected = "--form " + knows + " with it",
                              .found = "--form " + form,
                              .fix = "leave --chunk out"});
}
