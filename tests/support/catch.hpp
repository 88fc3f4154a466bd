// Catch2, version 2 or 3: Approx, and containing(part), which matches texts with that part.
#pragma once

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

using Catch::Approx;
inline auto containing(const std::string& part) { return Catch::Matchers::ContainsSubstring(part); }
#else
#include <catch2/catch.hpp>  // already has Approx in the global namespace

inline auto containing(const std::string& part) { return Catch::Contains(part); }
#endif
