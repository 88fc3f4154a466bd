// shape_number: one number of what a module or a config says of itself, by which states of one type
// are told apart.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "hydralm/model/config_fields.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// FNV-1a, 64 bit. A visitor of describe.
class ShapeNumber {
public:
    constexpr void module(std::string_view name) noexcept { text(name); }
    constexpr void option(std::string_view field, const auto& value) noexcept {
        text(field);
        if constexpr (requires { static_cast<double>(value); }) number(static_cast<double>(value));
        else text(value);
    }
    constexpr void part(std::string_view field, const auto& module) noexcept {
        text(field);
        module.describe(*this);
    }
    constexpr std::uint64_t value() const noexcept { return value_; }

private:
    constexpr void text(std::string_view text) noexcept {
        for (const char c : text) byte(static_cast<unsigned char>(c));
        byte(0);
    }
    constexpr void number(double number) noexcept {
        const auto bits = std::bit_cast<std::uint64_t>(number);
        for (int shift = 0; shift < 64; shift += 8)
            byte(static_cast<unsigned char>(bits >> shift & 0xFF));
    }
    constexpr void byte(unsigned char byte) noexcept { value_ = (value_ ^ byte) * 0x100000001B3U; }

    std::uint64_t value_ = 0xCBF29CE484222325U;
};

}  // namespace detail

template <class Module>
constexpr std::uint64_t shape_number(const Module& module) noexcept {
    detail::ShapeNumber number;
    module.describe(number);
    return number.value();
}

constexpr std::uint64_t shape_number(const HydraConfig& c) noexcept {
    detail::ShapeNumber number;
    for_each_config_field([&](const auto& field) {
        const auto& value = c.*field.member;
        if constexpr (requires { value.size(); })
            for (Index i = 0; i < value.size(); ++i)
                number.option(field.name, static_cast<int>(value[i]));
        else number.option(field.name, value);
    });
    return number.value();
}

}  // namespace HYDRALM_NAMESPACE
