// The scalar the command line asks for, as a type.
#pragma once

#include <string>

// Calls f with a value of the scalar type that is named.
template <class F>
void with_scalar(const std::string& name, const F& f) {
    if (name == "double") f(double{});
    else f(float{});
}
