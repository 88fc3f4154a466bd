// The fields of HydraConfig as one table: name, member, meaning, rule and what to say when it is
// broken.
//
// JSON both ways, the checks at compile time and at run time, what is compared between files and
// the table of docs/configuration.md follow from it. The default of a field stands at the member.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "hydralm/model/config.hpp"

namespace HYDRALM_NAMESPACE {

// Where two configurations must have the same value of a field to be those of the same model.
enum class Compared : std::uint8_t {
    everywhere,   // what the layers are
    checkpoints,  // in checkpoints; a state does not depend on it
    nowhere       // written out elsewhere (the schedule), or changes rounding at most
};

namespace detail::config_rules {

template <class T>
constexpr bool anything(const HydraConfig&, const T&) noexcept {
    return true;
}

}  // namespace detail::config_rules

// What the value of a field must be in the whole it stands in, and "<rule>; <usual fix>". Rules are
// asked in the order of the table; those before are kept.
template <class T>
struct ConfigRule {
    bool (*holds)(const HydraConfig&, const T&) = detail::config_rules::anything<T>;
    const char* text = "";
    // Whether there is a rule.
    constexpr explicit operator bool() const noexcept { return *text != '\0'; }
};

template <class T>
struct ConfigField {
    const char* name;
    T HydraConfig::* member;
    const char* meaning;  // as docs/configuration.md says it
    Compared compared = Compared::everywhere;
    ConfigRule<T> rule{};
    ConfigRule<T> also{};  // asked when rule holds
};

namespace detail::config_rules {

inline constexpr int extent = 1 << 24;  // keeps every product of two extents inside 64 bits

template <auto low, auto high>
constexpr bool between(const HydraConfig&, const decltype(low)& x) noexcept {
    return x >= low && x <= high;
}
constexpr bool not_negative(const HydraConfig&, const int& x) noexcept { return x >= 0; }
constexpr bool positive(const HydraConfig&, const double& x) noexcept {
    return x > 0.0 && x < std::numeric_limits<double>::infinity();
}
constexpr bool in_vocabulary(const HydraConfig& c, const int& id) noexcept {
    return id >= 0 && id < c.vocab_size;
}
constexpr bool follows(const HydraConfig& c, const int& head_dim) noexcept {
    return head_dim != 0 || c.d_model % c.n_heads == 0;
}
constexpr bool fills_vectors(const HydraConfig& c, const int& head_dim) noexcept {
    const int d = head_dim == 0 ? c.d_model / c.n_heads : head_dim;
    return d >= 4 && d % 4 == 0 && d <= 4096;
}
constexpr bool groups_heads(const HydraConfig& c, const int& groups) noexcept {
    return groups == 0 || (groups > 0 && c.n_heads % groups == 0);
}
constexpr bool makes_a_width(const HydraConfig& c, const double& mult) noexcept {
    return positive(c, mult) && mult * c.d_model >= 1.0 && mult * c.d_model <= extent;
}
constexpr bool names_each_layer(const HydraConfig& c, const LayerTypes& types) noexcept {
    return types.empty() || types.size() == c.n_layers;
}

}  // namespace detail::config_rules

// Every field, in the order of HydraConfig.
inline constexpr std::tuple config_fields = [] {
    using C = HydraConfig;
    using Int = ConfigField<int>;
    using Real = ConfigField<double>;
    using Switch = ConfigField<bool>;
    using Layers = ConfigField<LayerTypes>;
    using enum Compared;
    using namespace detail::config_rules;
    return std::tuple{
        Int("vocab_size", &C::vocab_size, "token ids are 0 … vocab_size − 1", everywhere,
            {between<1, extent>, "must be in [1, 2^24]; set what the tokeniser has"}),
        Int("pad_token_id", &C::pad_token_id, "for tokenisers and training", checkpoints,
            {in_vocabulary, "must be in [0, vocab_size); use 0 when there is no padding"}),
        Int("d_model", &C::d_model, "width of the residual stream", everywhere,
            {between<1, extent>, "must be in [1, 2^24]; 128 to 4096 are usual"}),
        Int("n_layers", &C::n_layers, "blocks", everywhere,
            {between<1, LayerTypes::capacity>, "must be in [1, 256]; use fewer layers"}),
        Int("n_heads", &C::n_heads, "heads of every mixer", everywhere,
            {between<1, extent>, "must be in [1, 2^24]; usual is d_model / 64"}),
        Int("head_dim", &C::head_dim, "width of a head; 0 or null: d_model / n_heads", everywhere,
            {follows, "n_heads must divide d_model; change n_heads or give head_dim explicitly"},
            {fills_vectors,
             "must be a multiple of 4 in [4, 4096] (RoPE pairs, SIMD); choose n_heads so that it "
             "is"}),
        Int("n_kv_heads", &C::n_kv_heads,
            "groups of keys and values of a `full` layer, each read by n_heads / n_kv_heads heads; "
            "0: n_heads",
            everywhere, {groups_heads, "must divide n_heads or be 0; 0 means n_heads"}),
        Real("mlp_mult", &C::mlp_mult, "SwiGLU width over d_model, before rounding", everywhere,
             {makes_a_width, "must be positive and make a width in [1, 2^24]; 8/3 is usual"}),
        Int("mlp_multiple_of", &C::mlp_multiple_of,
            "⌊d_model · mlp_mult⌋ is rounded up to a multiple of it", everywhere,
            {between<1, extent>, "must be in [1, 2^24]; 64 is usual"}),
        Int("dn_short_conv_kernel", &C::dn_short_conv_kernel,
            "taps of the causal convolution of Gated DeltaNet", everywhere,
            {between<1, 64>, "must be in [1, 64]; 4 is usual"}),
        Switch("dn_use_gate", &C::dn_use_gate, "output gate silu(gate_proj x)"),
        Int("dn_chunk_size", &C::dn_chunk_size,
            "kept for other implementations; the kernels choose their own chunk", nowhere,
            {between<1, extent>, "must be in [1, 2^24]; 64 is usual"}),
        Switch("dn_norm_qk", &C::dn_norm_qk, "unit queries and keys"),
        Switch(
            "dn_negative_eigenvalues", &C::dn_negative_eigenvalues,
            "β in (0, 2) instead of (0, 1): a memory that can also flip signs, for state tracking"),
        Int("swa_window", &C::swa_window,
            "tokens a sliding-window layer sees, the current one included", everywhere,
            {between<1, extent>, "must be in [1, 2^24]; 512 is usual"}),
        Real("swa_rope_base", &C::swa_rope_base,
             "base of the rotary frequencies, of `full` layers too", everywhere,
             {positive, "must be positive and finite; 10000 is usual"}),
        Layers("layer_types", &C::layer_types,
               "mixer of every layer; empty or null: by the schedule", everywhere,
               {names_each_layer,
                "must name n_layers layers or none; leave it empty for the schedule"}),
        Int("swa_every", &C::swa_every, "every n-th layer is `swa`; 0: none", nowhere,
            {not_negative, "must not be negative; 0 means no sliding-window layer"}),
        Int("retrieval_every", &C::retrieval_every,
            "every n-th layer is `retrieval`, unless it is `swa`; 0: none", nowhere,
            {not_negative, "must not be negative; 0 means no retrieval layer"}),
        Int("retrieval_chunk_size", &C::retrieval_chunk_size,
            "chunk of a retrieval layer; 32 trains better, see [retrieval](retrieval.md)",
            everywhere, {between<1, extent>, "must be in [1, 2^24]; 128 is usual"}),
        Int("retrieval_top_k", &C::retrieval_top_k, "chunks a token retrieves", everywhere,
            {between<1, extent>, "must be in [1, 2^24]; 8 is usual"}),
        Int("mtp_depth", &C::mtp_depth, "multi-token-prediction modules; 0: none", everywhere,
            {between<0, 16>, "must be in [0, 16]; 0 means none"}),
        Real("mtp_loss_weight", &C::mtp_loss_weight, "their weight in the loss", checkpoints,
             {between<0.0, 1e6>, "must be in [0, 1e6]; 0.1 is usual"}),
        // The bounds are those of float.
        Real("rms_eps", &C::rms_eps, "ε of every RMS norm", everywhere,
             {between<1e-37, 1e37>, "must be in [1e-37, 1e37]; 1e-5 is usual"}),
        Switch("tie_embeddings", &C::tie_embeddings, "the head is the embedding matrix"),
        Real("initializer_range", &C::initializer_range,
             "standard deviation of the scheme `normal`", checkpoints,
             {positive, "must be positive and finite; 0.02 is usual"}),
        Int("max_position_embeddings", &C::max_position_embeddings,
            "advice to tokenisers, never enforced", checkpoints,
            {between<1, std::numeric_limits<int>::max()>, "must be positive; it is advice only"}),
    };
}();

// visit(field) for every field, in order.
template <class Visit>
constexpr void for_each_config_field(Visit visit) {
    std::apply([&](const auto&... field) { (visit(field), ...); }, config_fields);
}

// The field and the text of a rule that is broken; false when none is.
struct BrokenRule {
    std::string_view field;
    std::string_view text;  // "<rule>; <usual fix>"
    constexpr explicit operator bool() const noexcept { return !field.empty(); }
};

// The first rule that c breaks.
constexpr BrokenRule broken_rule(const HydraConfig& c) noexcept {
    BrokenRule broken;
    const auto keeps = [&](const auto& field, const auto& rule) {
        if (rule.holds(c, c.*field.member)) return true;
        broken = {field.name, rule.text};
        return false;
    };
    std::apply(
        [&](const auto&... field) {
            return ((keeps(field, field.rule) && keeps(field, field.also)) && ...);
        },
        config_fields);
    return broken;
}

// What a message shows of a head_dim that was left open.
inline std::string open_head_dim(const HydraConfig& c) {
    return "d_model " + std::to_string(c.d_model) + " / n_heads " + std::to_string(c.n_heads);
}

namespace detail {

// A value of any type, for counting the members of HydraConfig.
struct AnyMember {
    template <class T>
    operator T() const;
};
template <std::size_t... i>
constexpr bool has_members(std::index_sequence<i...>) {
    return requires { HydraConfig{(static_cast<void>(i), AnyMember{})...}; };
}
inline constexpr std::size_t field_count = std::tuple_size_v<decltype(config_fields)>;
static_assert(!has_members(std::make_index_sequence<field_count + 1>{}),
              "hydralm: HydraConfig: every member has its line in config_fields; add it");

// A text as a template argument: compilers print the arguments of what they refuse, \ before ' and
// ", which rules do without.
template <std::size_t size>
struct Message {
    char text[size]{};
};

// "hydralm: <field>: <rule>; <usual fix>" of the rule that config breaks, empty when there is none.
template <HydraConfig config>
constexpr auto config_message() {
    constexpr BrokenRule broken = broken_rule(config);
    if constexpr (broken) {
        constexpr std::array<std::string_view, 4> parts{"hydralm: ", broken.field, ": ",
                                                        broken.text};
        constexpr std::size_t length =
            parts[0].size() + parts[1].size() + parts[2].size() + parts[3].size();
        Message<length + 1> message;
        char* out = message.text;
        for (const std::string_view part : parts)
            for (const char c : part) *out++ = c;
        return message;
    } else {
        return Message<1>{};
    }
}

template <Message message>
struct Config {};
template <class Checked>
inline constexpr bool is_possible = false;
template <>
inline constexpr bool is_possible<Config<Message<1>{}>> = true;
// Failing, both g++ and clang print the argument of is_possible, and clang all of it only here.
template <class Checked>
concept Possible = is_possible<Checked>;

}  // namespace detail

// Instantiating ValidConfig<config> compiles only when config keeps every rule; the compiler's
// note below the error has the message, naming the field.
template <HydraConfig config>
struct ValidConfig {
    static_assert(detail::Possible<detail::Config<detail::config_message<config>()>>,
                  "hydralm: HydraConfig: every field must keep its rule; mend the field that the "
                  "note below names");
    static constexpr bool value = !broken_rule(config);
};

}  // namespace HYDRALM_NAMESPACE
