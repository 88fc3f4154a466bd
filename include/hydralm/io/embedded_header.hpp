// EmbeddedHeader: a model as C++ text, its config and its weights as a constant; and, for weights
// too many for the compiler, as text for the assembler that takes them from a file.
#pragma once

#include <array>
#include <charconv>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "hydralm/io/config_json.hpp"
#include "hydralm/io/crc32.hpp"
#include "hydralm/model/weight_image.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

inline std::string cpp_value(const auto& value) { return Json(value).dump(); }
inline std::string cpp_value(const LayerTypes& types) {
    std::string text;
    for (int i = 0; i < types.size(); ++i)
        text += (i == 0 ? "{" : ", ") + std::string("hydralm::LayerType::") + name(types[i]);
    return text + "}";
}

// The fields that differ from HydraConfig{}, as its initialiser.
inline std::string cpp_value(const HydraConfig& config) {
    std::string text = "{";
    for_each_config_field([&](const auto& field) {
        if (config.*field.member == HydraConfig{}.*field.member) return;
        text += (text == "{" ? "\n    ." : ",\n    .") + std::string(field.name) + " = " +
                cpp_value(config.*field.member);
    });
    return text + "}";
}

template <class Policy>
bool is_policy(std::span<const ParameterInfo> infos) noexcept {
    for (const auto& info : infos)
        if (info.format != format_of<float, Policy>(info)) return false;
    return true;
}

}  // namespace detail

// The policy under which tensors have the formats that these have, as weights:: names it; empty
// where there is none.
inline std::string_view policy_name(std::span<const ParameterInfo> infos) noexcept {
    if (detail::is_policy<weights::Float>(infos)) return "Float";
    if (detail::is_policy<weights::BF16>(infos)) return "BF16";
    if (detail::is_policy<weights::Q8>(infos)) return "Q8";
    if (detail::is_policy<weights::Q4>(infos)) return "Q4";
    if (detail::is_policy<weights::Mixed>(infos)) return "Mixed";
    return {};
}

struct EmbeddedModel {
    std::string name;  // of the namespace: an identifier
    HydraConfig config;
    std::string_view policy;  // policy_name
    Index vector_bytes = 0;
    std::span<const std::byte> image;  // weight_image
};

// The most weights that a header may hold: beyond, compilers take too much memory.
inline constexpr std::size_t most_header_bytes = std::size_t{16} << 20;

namespace detail {

inline std::string header_until_weights(const EmbeddedModel& m) {
    const std::string bytes = std::to_string(m.image.size());
    return "// A model of " + bytes + " bytes of weights: const " + m.name + "::Model model{" +
           m.name +
           "::embedded}; written by `hydralm embed`.\n"
           "// clang-format off\n#pragma once\n\n#include <hydralm/model/hydra_lm.hpp>\n\n"
           "namespace " +
           m.name + " {\n\ninline constexpr hydralm::HydraConfig config" + cpp_value(m.config) +
           ";\nusing Model = hydralm::HydraLM<config, float, hydralm::weights::" +
           std::string(m.policy) + ">;\nusing Weights = hydralm::EmbeddedWeights<Model, " +
           std::to_string(m.vector_bytes) + ">;\nstatic_assert(sizeof(Weights) == " + bytes +
           ",\n    \"hydralm: embedded weights: must be laid out as these headers do; run hydralm "
           "embed of their version again\");\n";
}
// With the CRC-32 of the weights in it: those of another image are not linked.
inline std::string symbol_of(const EmbeddedModel& m) {
    std::array<char, 8> digits{};
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), crc32(m.image), 16).ptr;
    return "hydralm_embedded_" + m.name + "_" + std::string(digits.data(), end);
}

}  // namespace detail

// With the weights in it. Allocates the text, 2.4 times the image.
inline std::string embedded_header(const EmbeddedModel& m) {
    std::string text = detail::header_until_weights(m) + "inline constexpr Weights embedded{{";
    text.reserve(text.size() + m.image.size() / 8 * 20 + 100);
    for (std::size_t at = 0; at < m.image.size(); at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, m.image.data() + at, sizeof word);
        std::array<char, 16> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), word, 16).ptr;
        text += at % 64 == 0 ? "\n0x" : "0x";
        text.append(digits.data(), end).append(",");
    }
    return text + "}};\n\n}  // namespace " + m.name + "\n";
}

// Without: they are defined by embedded_assembly, in a unit of its own.
inline std::string embedded_declaration(const EmbeddedModel& m) {
    const std::string symbol = detail::symbol_of(m);
    return detail::header_until_weights(m) + "extern \"C\" const Weights " + symbol +
           ";\ninline const Weights& embedded = " + symbol + ";\n\n}  // namespace " + m.name +
           "\n";
}

// Text for the assembler, by way of the preprocessor (.S), that takes the image from a file, and
// nothing of another size.
inline std::string embedded_assembly(const EmbeddedModel& m, const std::string& image_file) {
    const std::string symbol = detail::symbol_of(m), bytes = std::to_string(m.image.size());
    return "/* The weights that " + m.name +
           ".hpp declares; written by `hydralm embed`. */\n"
           "    .section .rodata, \"a\", %progbits\n    .balign " +
           std::to_string(alignment) + "\n    .globl " + symbol + "\n    .type " + symbol +
           ", %object\n    .size " + symbol + ", " + bytes + "\n" + symbol + ":\n    .incbin \"" +
           image_file + "\"\n    .if . - " + symbol + " - " + bytes +
           "\n    .error \"hydralm: " + image_file + ": must be of " + bytes +
           " bytes; run hydralm embed again\"\n    .endif\n    .section .note.GNU-stack, \"\", "
           "%progbits\n";
}

}  // namespace HYDRALM_NAMESPACE
