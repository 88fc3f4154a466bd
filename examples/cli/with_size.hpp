// One of several sizes that kernels are compiled for, as a constant.
#pragma once

#include <hydralm/model/kernel_sizes.hpp>
#include <string>
#include <type_traits>

// f(a constant) for the one of the sizes that is wanted; f(0) when none is.
template <hydralm::Index... sizes, class F>
void with_size(hydralm::Sizes<sizes...>, hydralm::Index wanted, const F& f) {
    using hydralm::Index;
    if (!((wanted == sizes && (f(std::integral_constant<Index, sizes>{}), true)) || ...))
        f(std::integral_constant<Index, 0>{});
}

// "16, 32 or 64"
template <hydralm::Index... sizes>
std::string listed(hydralm::Sizes<sizes...>) {
    std::string text;
    std::size_t left = sizeof...(sizes);
    ((text += std::to_string(sizes) + (--left > 1 ? ", " : left == 1 ? " or " : "")), ...);
    return text;
}
