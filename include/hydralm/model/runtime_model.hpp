// RuntimeModel: one type for models of any config, whose shape is read at run time.
//
// The same layers as HydraLM's with run-time shapes, each behind one virtual call a tile. What the
// kernels must know when they are compiled, the head dimension and the chunk of retrieval, is taken
// from lists: a config of another one is refused by its field. HydraLM of the same config computes
// the same bits.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/layers/full_attention_backward.hpp"
#include "hydralm/layers/gated_delta_net_backward.hpp"
#include "hydralm/layers/retrieval_attention_backward.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/sliding_window_attention_backward.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/config_fields.hpp"
#include "hydralm/model/hybrid_stack.hpp"
#include "hydralm/model/model_calls.hpp"
#include "hydralm/model/mtp.hpp"
#include "hydralm/model/runtime_stack.hpp"
#include "hydralm/model/shape_number.hpp"
#include "hydralm/model/weight_memory.hpp"

namespace HYDRALM_NAMESPACE {

// Head dimensions, and chunks of retrieval, that a RuntimeModel is compiled for. Each pair of the
// two is a mixer type more to compile; give `RuntimeModel<T>(config, Kernels<…>())` a list of your
// own for others.
template <Index... values>
struct Sizes {};
template <class HeadDims, class Chunks>
struct Kernels {};
using CommonChunks = Sizes<16, 32, 64, 128>;
using CommonKernels = Kernels<Sizes<16, 32, 64, 128>, CommonChunks>;

namespace detail {

template <Real T>
struct RuntimeParts {
    using Mlp = SwiGLU<T, RuntimeMlpShape>;
    using Norm = RmsNorm<T, RuntimeNormShape>;
    Mlp mlp;
    Norm norm;

    explicit RuntimeParts(const HydraConfig& c)
        : mlp({c.d_model, mlp_hidden(c)}), norm({c.d_model, c.rms_eps}) {}
    template <class Mixer>
    std::unique_ptr<ErasedBlock<T>> block(Mixer mixer) const {
        return std::make_unique<ErasedBlockOf<Block<Mixer, Mlp, Norm>>>(
            Block<Mixer, Mlp, Norm>(mixer, mlp, norm));
    }
};

// f(std::integral_constant) of the size that is wanted. Throws Error naming the field for none.
template <class Made, Index... values, class F>
Made with_size(Sizes<values...>, Index wanted, const char* field, const F& f) {
    Made made{};
    const bool found =
        ((wanted == values && (made = f(std::integral_constant<Index, values>{}), true)) || ...);
    if (!found) {
        std::string known;
        ((known += (known.empty() ? "" : ", ") + std::to_string(values)), ...);
        raise({.field = field,
               .expected = "one of " + known,
               .found = std::to_string(wanted),
               .fix = "build the program for this config (-Dmodel_config); in code, use "
                      "HydraLM of it, or give Kernels of its sizes"});
    }
    return made;
}

// Layer i of a valid, resolved config whose head_dim is D. All that is large to compile of a
// RuntimeModel is here: `extern template` of this spares it (docs/using.md).
template <Real T, Index D, class Chunks>
std::unique_ptr<ErasedBlock<T>> make_block(const HydraConfig& c, int i) {
    const RuntimeParts<T> parts(c);
    switch (c.layer_types[i]) {
        case LayerType::deltanet:
            return parts.block(GatedDeltaNet<T, D>(
                RuntimeDeltaNetShape{c.d_model, c.n_heads, c.dn_short_conv_kernel, c.dn_use_gate,
                                     c.dn_norm_qk, c.dn_negative_eigenvalues}));
        case LayerType::swa:
            return parts.block(SlidingWindowAttention<T, D>(
                RuntimeWindowShape{c.d_model, c.n_heads, c.swa_window, c.swa_rope_base}));
        case LayerType::full:
            return parts.block(FullAttention<T, D, 64>(
                RuntimeFullShape{c.d_model, c.n_heads, c.n_kv_heads, c.swa_rope_base}));
        case LayerType::retrieval: break;
    }
    return with_size<std::unique_ptr<ErasedBlock<T>>>(
        Chunks{}, c.retrieval_chunk_size, "retrieval_chunk_size", [&](auto chunk) {
            return parts.block(RetrievalAttention<T, D, chunk>(RuntimeRetrievalShape{
                c.d_model, c.n_heads, c.retrieval_top_k, c.dn_short_conv_kernel}));
        });
}

template <Real T, class HeadDims, class Chunks>
RuntimeStack<T> make_runtime_stack(const HydraConfig& c, Kernels<HeadDims, Chunks>) {
    std::vector<std::unique_ptr<ErasedBlock<T>>> blocks;
    for (int i = 0; i < c.n_layers; ++i)
        blocks.push_back(with_size<std::unique_ptr<ErasedBlock<T>>>(
            HeadDims{}, c.head_dim, "head_dim",
            [&](auto head_dim) { return make_block<T, head_dim, Chunks>(c, i); }));
    return {c.d_model, std::move(blocks)};
}

}  // namespace detail

// T: scalar of weights, activations and state. Calls, states, files, training and
// drafts as LanguageModel's. Movable, not copyable.
template <Real T>
class RuntimeModel : public ModelCalls<RuntimeModel<T>, T> {
    using Calls = ModelCalls<RuntimeModel<T>, T>;
    using Parts = detail::RuntimeParts<T>;
    using MtpType = MtpModule<typename Parts::Mlp, typename Parts::Norm>;

public:
    using Scalar = T;
    using WeightFormats = weights::Float;
    using State = typename Calls::State;

    // All parameters zero. Throws Error for a config that breaks a rule or asks for a kernel that
    // is not in the lists, naming the field.
    template <class Compiled = CommonKernels>
    explicit RuntimeModel(const HydraConfig& given, Compiled kernels = {})
        : RuntimeModel(given, kernels, [](std::span<const ParameterInfo>) {}) {}
    // The same; accept(parameters) may throw before memory for them is taken.
    template <class Compiled, class Accept>
    RuntimeModel(const HydraConfig& given, Compiled kernels, const Accept& accept)
        : RuntimeModel(checked(given), std::nullopt,
                       detail::make_runtime_stack<T>(checked(given), kernels), accept) {}
    // A hybrid, whose kernels need no lists.
    template <class Accept>
    RuntimeModel(const HybridShape& shape, const Accept& accept)
        : RuntimeModel(summary_of(shape), shape, detail::make_hybrid_stack<T>(shape), accept) {}
    RuntimeModel(RuntimeModel&&) noexcept = default;
    RuntimeModel& operator=(RuntimeModel&&) noexcept = default;

    // Known once the model is made, as LanguageModel's constants are; not to be written.
    HydraConfig config;  // head_dim and layer_types written out; of a hybrid a summary
    std::optional<HybridShape> hybrid;  // when no config says what the model is made of
    bool ties_head;
    Index mtp_depth;
    double initializer_range;
    Index layers;
    double mtp_loss_weight;
    typename Parts::Norm norm;
    MtpType mtp_module;  // all mtp_depth of them
    RuntimeStack<T> stack;
    Index state_bytes;                      // that one stream carries, beside what banks hold
    std::vector<ParameterInfo> parameters;  // in file order: name, shape, law
    Index parameter_count = 0;
    Index weight_bytes = 0;  // as they are computed with
    Index vocab_size() const noexcept { return config.vocab_size; }
    Index d_model() const noexcept { return config.d_model; }
    // Models of one number have states of one shape.
    std::uint64_t shape() const noexcept { return shape_; }

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix embed{};  // [V, d]
        typename RuntimeStack<T>::template Parameters<Storage> blocks{};
        typename Parts::Norm::template Parameters<Storage> norm_f{};
        typename Storage::Matrix lm_head{};  // [V, d] when untied
        std::vector<typename MtpType::template Parameters<Storage>> mtp{};
    };
    template <class P, class V>
    void visit(P& p, V& v) const {
        v.matrix(p.embed, "embed.weight", laws::embedding, vocab_size(), d_model());
        v.nested("blocks", [&] { stack.visit(p.blocks, v); });
        v.nested("norm_f", [&] { norm.visit(p.norm_f, v); });
        if (!ties_head) v.matrix(p.lm_head, "lm_head.weight", laws::head, vocab_size(), d_model());
        if (mtp_depth == 0) return;
        if constexpr (!std::is_const_v<P>) p.mtp.resize(static_cast<std::size_t>(mtp_depth));
        v.nested("mtp", [&] {
            for (std::size_t i = 0; i < p.mtp.size(); ++i)
                v.nested(std::to_string(i), [&] { mtp_module.visit(p.mtp[i], v); });
        });
    }

    // Throws Error when this model was moved from.
    void expect_weights() const { memory_.expect(); }

    // As LanguageModel's.
    void set_parameters(const ParameterSource<T>& f) {
        expect_weights();
        AlignedBuffer<T> scratch(largest_);
        ParameterSource<T> source = f;
        StorePacked<T, ParameterSource<T>> store(memory_.data(), scratch.span(), source);
        visit(weights_, store);
    }
    void get_parameters(const ParameterSink<T>& f) const {
        expect_weights();
        AlignedBuffer<T> scratch(largest_);
        ParameterSink<T> sink = f;
        ReadPacked<T, ParameterSink<T>> read(scratch.span(), sink);
        visit(weights_, read);
    }
    const Parameters<PackedStorage<T>>& weights() const noexcept { return weights_; }
    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        return stack.new_memory(policy);
    }
    BankPolicy bounded_banks(Index budget, BankFormat format = BankFormat::exact,
                             Index tile = Calls::prefill_tile) const {
        return bounded_policy(new_memory().banks(), budget, format, tile);
    }
    Index workspace_bytes(Index B, Index N, Form form = Form::parallel) const noexcept {
        return 2 * arena_bytes<T>(B * N * d_model()) + scratch_bytes(stack, {B, N, form});
    }
    MatrixView<T> forward(const token_id* tokens, Streams streams, Index N, Form form,
                          Arena& arena) const noexcept {
        const Index rows = streams.count() * N;
        const auto x = take_matrix<T>(arena, rows, d_model());
        const auto normed = take_matrix<T>(arena, rows, d_model());
        for (Index r = 0; r < rows; ++r) weights_.embed.copy_row(tokens[r], x.row(r));
        stack.forward(weights_.blocks, streams, N, x, form, arena);
        norm.forward(weights_.norm_f, x, normed);
        return normed;
    }
    void head(MatrixView<const T> hidden, MatrixView<T> logits) const noexcept {
        kernels::matmul(hidden, ties_head ? weights_.embed : weights_.lm_head, logits);
    }
    // sink("<layer>.<name>", shape, values).
    template <class Sink>
    void export_state(State& state, const Sink& sink) const {
        const Stream stream = state.stream();
        stack.export_state(Streams(&stream, 1), state.position(),
                           [&](std::size_t layer, const char* name, std::span<const Index> shape,
                               const std::vector<T>& values) {
                               sink(std::to_string(layer) + "." + name, shape, values);
                           });
    }

private:
    template <class Accept>
    RuntimeModel(const HydraConfig& c, std::optional<HybridShape> shape, RuntimeStack<T> made,
                 const Accept& accept)
        : config(c),
          hybrid(std::move(shape)),
          ties_head(config.tie_embeddings),
          mtp_depth(config.mtp_depth),
          initializer_range(config.initializer_range),
          layers(config.n_layers),
          mtp_loss_weight(config.mtp_loss_weight),
          norm(Parts(config).norm),
          mtp_module(Parts(config).mlp, norm),
          stack(std::move(made)),
          state_bytes(stack.all_states().bytes) {
        DescribeParameters<ParameterList> describe([&](const ParameterInfo& info) {
            parameters.push_back(info);
            if (info.size() > most_parameters - parameter_count)
                raise({.field = std::string(info.name()),
                       .expected = "at most 2^48 parameters in all",
                       .found = std::to_string(info.size()) + " and " +
                                std::to_string(parameter_count) + " before it",
                       .fix = "give a config of a smaller model"});
            parameter_count += info.size();
            largest_ = std::max(largest_, info.size());
            weight_bytes += packed_size<T>(info);
        });
        Parameters<NoStorage> none;
        visit(none, describe);
        accept(std::span<const ParameterInfo>(parameters));
        memory_ = WeightMemory(weight_bytes);
        BindPacked<T> bind(memory_.data());
        visit(weights_, bind);
    }

    static HydraConfig checked(const HydraConfig& given) {
        if (const BrokenRule broken = broken_rule(given))
            raise({.field = std::string(broken.field),
                   .found = found_in(given, broken.field),
                   .fix = std::string(broken.text)});
        const HydraConfig c = resolved(given);
        const double state =
            static_cast<double>(c.n_heads) * c.head_dim * (2.0 * c.swa_window + c.head_dim);
        if (state > static_cast<double>(most_parameters))
            raise({.field = "n_heads, head_dim, swa_window",
                   .expected = "a layer's state of at most 2^48 numbers",
                   .found = std::to_string(state),
                   .fix = "give fewer heads or a shorter window"});
        return c;
    }

    static std::string found_in(const HydraConfig& c, std::string_view name) {
        std::string found;
        for_each_config_field([&](const auto& field) {
            if constexpr (requires { std::to_string(c.*field.member); })
                if (field.name == name) found = std::to_string(c.*field.member);
        });
        return found;
    }

    static constexpr Index most_parameters = Index{1} << 48;

    std::uint64_t shape_ = hybrid ? shape_number(*hybrid) : shape_number(config);
    Index largest_ = 0;
    WeightMemory memory_{0};
    Parameters<PackedStorage<T>> weights_{};
};

}  // namespace HYDRALM_NAMESPACE
